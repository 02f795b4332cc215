"""Fetching, against a small hub on this machine that speaks the real one's protocol."""

import dataclasses
import hashlib
import http.server
import threading

import huggingface_hub
import pytest

from swag_jax._checks import UserError
from swag_jax.params import convert, fetch
from swag_jax.params.manifest import Checkpoint, Hub, checkpoint
from swag_jax.params.store import home, stored, verify_stored

REVISION = 40 * "a"


class Server(http.server.ThreadingHTTPServer):
    """Serves one content at every address; can break off, forget ranges, or publish another hash."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.etag = hashlib.sha256(content).hexdigest()
        self.break_after, self.break_once = None, False
        self.ranges = True
        self.requests = []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        body = self.answer()
        self.wfile.write(body[: self.server.break_after])
        if self.server.break_once:
            self.server.break_after = None

    def answer(self):
        wanted = self.headers.get("Range")
        self.server.requests.append((self.command, self.path, wanted))
        body, whole = self.server.content, len(self.server.content)
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted and self.server.ranges else None
        if start is not None and start >= whole:
            self.send_error(416)
            return b""
        self.send_response(200 if start is None else 206)
        if start is not None:
            body = body[start:]
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("ETag", f'"{self.server.etag}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, *args):
        pass


@pytest.fixture
def server(vgg, tmp_path):
    """A hub with a small VGG19."""
    server = Server(vgg.save(tmp_path / "x.safetensors").read_bytes())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def entry(server):
    """What the manifest would say of it."""
    return dataclasses.replace(
        checkpoint("vgg19-imagenet"),
        hub=Hub("someone/vgg19", "model.safetensors", REVISION),
        sha256=hashlib.sha256(server.content).hexdigest(),
        url=None,
        url_sha256_prefix=None,
    )


@pytest.fixture
def by_url(entry, server):
    """The same, but only at an address with a published prefix of its hash."""
    return dataclasses.replace(
        entry,
        hub=None,
        url=f"{server.address}/vgg19-x.pth",
        url_sha256_prefix=str(entry.sha256)[:8],
        sha256=None,
    )


@pytest.fixture
def get(server, vgg, tmp_path):
    def get(entry: Checkpoint):
        cache = tmp_path / "hub"
        return fetch(entry, expected=vgg.expected, progress=False, endpoint=server.address, cache=cache)

    return get


def test_from_the_hub_to_the_store(get, entry, server, vgg):
    path = get(entry)
    assert stored() == {"vgg19-imagenet": path}
    verify_stored("vgg19-imagenet", vgg.expected)
    where = f"/someone/vgg19/resolve/{REVISION}/model.safetensors"
    assert {path for _, path, _ in server.requests} == {where}
    assert not huggingface_hub.utils.are_progress_bars_disabled()


def test_a_pinned_file_in_the_hubs_cache_is_not_asked_for_again(get, entry, server):
    get(entry)
    server.requests.clear()
    get(entry)
    assert server.requests == []


def test_a_broken_download_from_the_hub_is_tried_again(get, entry, server, vgg):
    server.break_after, server.break_once = 1000, True
    get(entry)
    assert [command for command, _, _ in server.requests].count("GET") == 2
    verify_stored("vgg19-imagenet", vgg.expected)


def test_another_file_than_the_manifests_is_removed(get, entry, server, tmp_path):
    with pytest.raises(UserError, match=f"must have sha256 {64 * '0'}, got {server.etag}: it was removed"):
        get(dataclasses.replace(entry, sha256=64 * "0"))
    assert stored() == {}
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.is_file() and path.stat().st_size > 1000]


def test_without_a_hash_in_the_manifest_the_hubs_is_checked(get, entry, server):
    unhashed = dataclasses.replace(entry, sha256=None)
    server.etag = 64 * "1"
    with pytest.raises(UserError, match=f"must have sha256 {64 * '1'}"):
        get(unhashed)
    server.etag = "0123456789abcdef0123456789abcdef01234567"
    with pytest.raises(UserError, match="must have a sha256 published by the hub, got 0123"):
        get(unhashed)
    assert stored() == {}
    server.etag = hashlib.sha256(server.content).hexdigest()
    assert get(unhashed).is_file()


def test_what_does_not_fit_is_not_stored(get, entry, vgg):
    vgg.expected["conv1_1.bias"] = (3,)
    with pytest.raises(UserError, match=r"conv1_1\.bias has shape"):
        get(entry)
    assert stored() == {}


def test_from_an_address(get, by_url, vgg):
    get(by_url)
    verify_stored("vgg19-imagenet", vgg.expected)
    assert list((home() / "downloads").iterdir()) == []


def test_a_broken_download_is_resumed(get, by_url, server, vgg):
    server.break_after = 1000
    with pytest.raises(UserError, match=r"the connection closed after 1000 of \d+ bytes; run again to resume"):
        get(by_url)
    assert stored() == {}
    server.break_after = None
    get(by_url)
    assert [wanted for _, _, wanted in server.requests] == ["bytes=0-", "bytes=1000-"]
    verify_stored("vgg19-imagenet", vgg.expected)


def test_a_download_that_ended_just_before_its_check(get, by_url, server, vgg):
    (home() / "downloads").mkdir(parents=True)
    (home() / "downloads" / "vgg19-x.pth.part").write_bytes(server.content)
    get(by_url)
    verify_stored("vgg19-imagenet", vgg.expected)


def test_a_server_without_ranges_starts_over(get, by_url, server, vgg):
    server.break_after, server.ranges = 1000, False
    with pytest.raises(UserError, match="the connection closed"):
        get(by_url)
    server.break_after = None
    get(by_url)
    verify_stored("vgg19-imagenet", vgg.expected)


def test_another_file_at_an_address_is_removed(get, by_url):
    with pytest.raises(UserError, match=r"must have sha256 00000000, got .*: it was removed"):
        get(dataclasses.replace(by_url, url_sha256_prefix="00000000"))
    assert stored() == {}
    assert list((home() / "downloads").iterdir()) == []


def test_the_second_address_is_tried(entry, by_url, vgg, tmp_path):
    both = dataclasses.replace(by_url, hub=entry.hub)
    where = {"endpoint": "http://127.0.0.1:9", "cache": tmp_path / "hub"}
    assert fetch(both, expected=vgg.expected, progress=False, **where).is_file()


def test_no_network_is_one_error_with_both_addresses_and_the_cure(entry, vgg, tmp_path):
    nowhere = dataclasses.replace(entry, url="http://127.0.0.1:9/vgg19-x.pth", url_sha256_prefix="0")
    with pytest.raises(UserError) as caught:
        fetch(nowhere, expected=vgg.expected, progress=False, endpoint="http://127.0.0.1:9", cache=tmp_path)
    message = str(caught.value)
    assert message.startswith("cannot fetch vgg19-imagenet from someone/vgg19 on the Hugging Face hub (")
    assert "nor from http://127.0.0.1:9/vgg19-x.pth (" in message
    assert message.endswith(
        "fetch it on a machine with a network, then `swag-jax weights convert FILE --backbone vgg19`."
    )
    assert "\n" not in message


def test_a_progress_bar(by_url, vgg, capsys):
    fetch(by_url, expected=vgg.expected, progress=True)
    captured = capsys.readouterr()
    assert "vgg19-x.pth" in captured.err
    assert captured.out == ""


def test_the_file_fetched_elsewhere_converts_to_the_same(get, entry, vgg, tmp_path):
    path = get(entry)
    metadata = convert(tmp_path / "x.safetensors", "vgg19", vgg.expected).metadata
    assert metadata["tensors_sha256"] == convert(path, "vgg19", vgg.expected).metadata["tensors_sha256"]
