"""A data set has one fingerprint, which changes with every image."""

import hashlib
import os

import pytest

from data import fingerprint
from data.fingerprint import (
    changed_names,
    dataset_fingerprint,
    fingerprint_files,
    from_json,
    hash_files,
    to_json,
)
from tests.conftest import raises_user_error


@pytest.fixture
def folder(tmp_path):
    for name, content in (("x.png", b"one"), ("deep/y.png", b"three"), ("z.png", b"two")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def files(folder):
    return [folder / name for name in ("deep/y.png", "x.png", "z.png")]


def test_the_fingerprint_hashes_the_names_and_contents_in_order(folder):
    # By hand: sha256 of the domain, and for each file its name, a zero, and its content's sha256.
    digest = hashlib.sha256(b"a")
    for name, content in ((b"y.png", b"three"), (b"x.png", b"one"), (b"z.png", b"two")):
        digest.update(name + b"\0" + hashlib.sha256(content).digest())
    expected = digest.hexdigest()[:16]
    assert dataset_fingerprint({"a": hash_files(folder, files(folder))}) == expected
    assert fingerprint_files({"a": files(folder)}) == expected


@pytest.mark.parametrize("change", ["content", "name", "domain", "order"])
def test_another_image_gives_another_fingerprint(folder, change):
    before = fingerprint_files({"a": files(folder)})
    domain, paths = "a", files(folder)
    if change == "content":  # of the same size, and with its old date
        status = paths[1].stat()
        paths[1].write_bytes(b"0ne")
        os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "name":
        paths[1] = paths[1].rename(folder / "w.png")
    elif change == "domain":
        domain = "b"
    else:
        paths.reverse()
    assert fingerprint_files({domain: paths}) != before


def test_the_place_and_the_dates_of_the_images_do_not_matter(folder, tmp_path_factory):
    before = fingerprint_files({"a": files(folder)})
    other = tmp_path_factory.mktemp("elsewhere") / "copy"
    other.mkdir()
    (folder / "deep").rename(other / "deep")
    for name in ("x.png", "z.png"):
        (folder / name).rename(other / name)
        os.utime(other / name, (1, 1))
    assert fingerprint_files({"a": files(other)}) == before


def test_a_known_image_is_read_again_only_if_its_size_or_date_changed(folder, monkeypatch):
    known = from_json(to_json({"a": hash_files(folder, files(folder))}))["a"]
    read = []
    real = hashlib.file_digest

    def digest(file, kind):
        read.append(os.path.basename(file.name))
        return real(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", digest)
    monkeypatch.setattr(fingerprint, "_known_hashes", {})
    assert hash_files(folder, files(folder), known=known) == known and read == []
    (folder / "x.png").write_bytes(b"longer")
    os.utime(folder / "z.png", (5, 5))
    found = hash_files(folder, files(folder), known=known)
    assert sorted(read) == ["x.png", "z.png"]
    assert changed_names(known, found) == ["x.png"]  # a new date alone is not a change


def test_a_fingerprint_of_sizes_alone_is_marked(folder):
    before = dataset_fingerprint({"a": hash_files(folder, files(folder), "sizes")})
    (folder / "x.png").write_bytes(b"0ne")
    assert dataset_fingerprint({"a": hash_files(folder, files(folder), "sizes")}) == before
    assert before.startswith("~") and before[1:] != fingerprint_files({"a": files(folder)})
    (folder / "x.png").write_bytes(b"four")
    assert dataset_fingerprint({"a": hash_files(folder, files(folder), "sizes")}) != before


def test_a_missing_file_is_named(folder):
    with raises_user_error(path=folder / "gone.png"):
        hash_files(folder, [folder / "gone.png"])


def test_missing_and_added_images_differ(folder):
    found = hash_files(folder, files(folder))
    assert changed_names(found, hash_files(folder, files(folder)[1:])) == ["deep/y.png"]
    assert changed_names({}, found) == ["deep/y.png", "x.png", "z.png"]


@pytest.mark.parametrize(
    "damaged",
    [None, [], {"a": 3}, {"a": {"x": {}}},
     {"a": {"x": {"bytes": "1", "modified": 1, "sha256": ""}}},
     {"a": {"x": {"bytes": 1, "modified": 1, "sha256": "ff"}}},
     {"a": {"x": {"bytes": 1, "modified": 1, "sha256": "no hexadecimals"}}}],
)  # fmt: skip
def test_a_damaged_record_is_ignored(damaged):
    assert from_json(damaged) == {}


def test_a_name_that_is_not_utf8_is_recorded_escaped(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff.png")
    with open(path, "wb") as file:
        file.write(b"x")
    found = hash_files(tmp_path, [tmp_path / os.fsdecode(b"\xff.png")])
    assert list(to_json({"a": found})["a"]) == ["\\xff.png"]


def test_the_fingerprint_does_not_depend_on_the_encoding_of_the_file_system(tmp_path, monkeypatch):
    (tmp_path / "été😀.png").write_bytes(b"1")
    images = {"a": hash_files(tmp_path, [tmp_path / "été😀.png"])}
    expected = dataset_fingerprint(images)
    monkeypatch.setattr(os, "fsencode", lambda name: name.encode("latin-1"))
    assert dataset_fingerprint(images) == expected
