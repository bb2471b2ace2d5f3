import gzip
import io
import random
import shutil
import subprocess
import sys
import tarfile
import textwrap
import zlib
from pathlib import Path

import plyvel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventvault.archive import any_tar, manifest, tar_entries, unpacking
from eventvault.errors import (
    ArchiveAlien,
    ArchiveDamaged,
    ArchiveError,
    ArchiveIncomplete,
    ArchiveTooNew,
    ArchiveUnsafe,
    BackupNotFound,
    NoSpace,
)

PROJECT = Path(__file__).resolve().parents[3]
DATABASE = {
    "CURRENT": b"MANIFEST-000002\n",
    "MANIFEST-000002": random.Random(4).randbytes(600),
    "000003.log": random.Random(5).randbytes(3000),
    "000005.ldb": b"",
    "000006.sst": b"an old table",
}
Files = dict[str, bytes]


def entry(name: str, size: int = 0, **fields) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar_of(files: Files, *more: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, content in files.items():
            archive.addfile(entry(name, len(content)), io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return made.getvalue()


def placed(place: str, files: Files = DATABASE) -> Files:
    return {place + name: content for name, content in files.items()}


def content_of(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def unpacked(tmp_path):
    """Unpack bytes: gives the answer and the files; on an error nothing may be left."""

    def unpack(content: bytes) -> tuple[any_tar.ForeignFiles, Files]:
        path, target = tmp_path / "foreign.tar.gz", tmp_path / "target"
        path.write_bytes(content)
        shutil.rmtree(target, ignore_errors=True)
        try:
            answer = any_tar.unpack_foreign(path, target)
        except BaseException:
            assert not target.exists()
            raise
        return answer, content_of(target)

    return unpack


@pytest.fixture
def real(tmp_path) -> Path:
    """A LevelDB that was written by LevelDB, in event_registry_db."""
    folder = tmp_path / "there/storage/event_registry_db"
    folder.parent.mkdir(parents=True)
    with plyvel.DB(str(folder), create_if_missing=True) as db:
        for number in range(1000):
            db.put(b"%06d" % number, b"value %d" % number)
        db.compact_range()
        db.put(b"last", b"one")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("form", ["gnu", "posix", "ustar", "v7"])
@pytest.mark.parametrize("start", ["storage", "event_registry_db", "here"])
def test_a_plain_tar_of_a_database_is_taken(form, start, real, tmp_path):
    folder, names = {
        "storage": (real.parent.parent, ["storage"]),
        "event_registry_db": (real.parent, ["./event_registry_db"]),
        "here": (real, ["."]),
    }[start]
    path = tmp_path / "foreign.tar.gz"
    subprocess.run(["tar", "czf", path, f"--format={form}", *names], cwd=folder, check=True)
    answer = any_tar.unpack_foreign(path, tmp_path / "target")
    kept = {name: content for name, content in content_of(real).items() if name not in ("LOCK", "LOG", "LOG.old")}
    assert content_of(tmp_path / "target") == kept
    assert answer.files == sorted(kept)
    assert {Path(name).name for name in answer.ignored} == {"LOCK", "LOG"}
    with plyvel.DB(str(tmp_path / "target")) as db:
        assert (len(list(db)), db.get(b"last")) == (1001, b"one")


@pytest.mark.skipif(shutil.which("bsdtar") is None, reason="bsdtar is not installed")
@pytest.mark.parametrize("form", ["", "--format=pax", "--format=gnutar", "--format=ustar"])
def test_a_tar_made_by_bsdtar_is_taken(form, real, tmp_path):
    path = tmp_path / "foreign.tar.gz"
    options = [form] if form else []
    subprocess.run(["bsdtar", "czf", path, *options, "./event_registry_db"], cwd=real.parent, check=True)
    assert any_tar.unpack_foreign(path, tmp_path / "target").files == sorted(content_of(tmp_path / "target"))


def test_what_is_harmless_is_ignored_and_said(unpacked):
    extras = placed(
        "event_registry_db/",
        {"._CURRENT": b"x", ".DS_Store": b"x", "LOG": b"x", "LOG.old": b"x", "LOCK": b"", "x.dbtmp": b"",
         "PaxHeaders.12/CURRENT": b"x", "PaxHeaders.12/MANIFEST-000002": b"x", "lost/000009.ldb": b"x"},
    )  # fmt: skip
    more = {"._event_registry_db": b"x", "notes.txt": b"x", "000001.log": b"web server", "docs/CURRENT": b"x"}
    answer, files = unpacked(gzip.compress(tar_of({**extras, **placed("event_registry_db/"), **more})))
    assert files == DATABASE
    assert sorted(answer.ignored) == sorted({**extras, **more})
    assert answer.manifest is None


@pytest.mark.slow
def test_of_many_ignored_files_the_first_are_named_and_the_rest_counted(unpacked):
    answer, files = unpacked(gzip.compress(tar_of({**DATABASE, **{f"{n}.txt": b"" for n in range(200)}})))
    assert files == DATABASE
    assert (len(answer.ignored), answer.ignored[-1]) == (51, "and 150 more")


def test_folders_and_a_label_may_be_there_and_folders_twice(unpacked):
    folder = entry("./storage/", type=tarfile.DIRTYPE)
    label = entry("My volume", type=b"V")
    files = unpacked(gzip.compress(tar_of(placed("./storage/event_registry_db/"), folder, folder, label)))[1]
    assert files == DATABASE


def test_headers_as_macos_writes_them_are_read(unpacked):
    info = entry("event_registry_db/notes")
    info.pax_headers = {
        "LIBARCHIVE.creationtime": "1700000000", "SCHILY.dev": "16777232", "LIBARCHIVE.xattr.com.apple.provenance": "A",
        "path": "event_registry_db/" + "n\u00f6tes" * 50,
    }  # fmt: skip
    whole = tar_of(placed("event_registry_db/"), info, form=tarfile.PAX_FORMAT)
    answer, files = unpacked(gzip.compress(whole))
    assert files == DATABASE
    assert answer.ignored[0].startswith("event_registry_db/n\u00f6tesn\u00f6tes")


def test_long_gnu_names_are_read(unpacked):
    long = "x" * 300
    answer, files = unpacked(gzip.compress(tar_of({**DATABASE, long: b"content"})))
    assert files == DATABASE
    assert answer.ignored == ["x" * 200 + "…"]


def test_several_gzip_members_with_names_and_zeros_after_them_are_one_archive(unpacked):
    whole, made = tar_of(placed("event_registry_db/")), io.BytesIO()
    for start in range(0, len(whole), 1000):
        with gzip.GzipFile("a name", "wb", fileobj=made) as member:
            member.write(whole[start : start + 1000])
    assert unpacked(made.getvalue() + bytes(5000))[1] == DATABASE


def test_all_parts_of_a_gzip_header_are_read(unpacked):
    content = gzip.compress(tar_of(DATABASE))
    header = b"\x1f\x8b\x08\x1f" + bytes(6) + b"\x06\x00ab\x02\x00xy" + b"name\0" + b"comment\0" + b"\x12\x34"
    assert unpacked(header + content[10:])[1] == DATABASE


HOSTILE = {
    "a symbolic link": entry("x", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": entry("x", type=tarfile.LNKTYPE, linkname="event_registry_db/CURRENT"),
    "a device": entry("x", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "a named pipe": entry("x", type=tarfile.FIFOTYPE),
    "of the unknown kind": entry("x", type=b"Q"),
    "/etc/passwd": entry("/etc/passwd"),
    "'../x'": entry("../x"),
    "'event_registry_db/../../x'": entry("event_registry_db/../../x"),
    "control characters": entry("event_registry_db/x\x1b[2J"),
    r"'x\\x7f' has control": entry("x\x7f"),
    "has no name": entry("./"),
    "twice": entry("./event_registry_db//CURRENT"),
    "characters long": entry("x" * 5000),
}  # fmt: skip


@pytest.mark.parametrize("why", HOSTILE)
def test_hostile_entries_are_refused(why, unpacked):
    info = HOSTILE[why]
    if why == "has no name":
        whole = tar_of(placed("event_registry_db/"))
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        content = bytes(header) + whole
    else:
        content = tar_of(placed("event_registry_db/"), info)
    with pytest.raises(ArchiveUnsafe) as caught:
        unpacked(gzip.compress(content))
    assert why.replace("\\\\", "\\") in str(caught.value)


def test_a_file_that_is_also_a_folder_is_refused(unpacked):
    folder = entry("event_registry_db/CURRENT", type=tarfile.DIRTYPE)
    with pytest.raises(ArchiveUnsafe, match="twice"):
        unpacked(gzip.compress(tar_of(placed("event_registry_db/"), folder)))


def with_pax(records: dict[str, str], kind: bytes = b"x") -> bytes:
    lines = b""
    for key, value in records.items():
        text = f" {key}={value}\n".encode()
        lines += str(len(text) + len(str(len(text) + 2))).encode() + text
    head = entry("pax", len(lines), type=kind).tobuf(tarfile.USTAR_FORMAT)
    return head + lines + bytes(-len(lines) % 512)


@pytest.mark.parametrize(
    ("records", "kind"),
    [
        ({"SCHILY.realsize": "99"}, b"x"),
        ({"path": "../../x"}, b"x"),
        ({"path": "/x"}, b"x"),
        ({"path": "a\0b"}, b"x"),
        ({"path": "everything"}, b"g"),
        ({"size": "99"}, b"g"),
        ({"GNU.sparse.major": "1"}, b"g"),
        ({"size": "9" * 19}, b"x"),
    ],
)
def test_hostile_pax_headers_are_refused(records, kind, unpacked):
    with pytest.raises(ArchiveUnsafe):
        unpacked(gzip.compress(with_pax(records, kind) + tar_of(DATABASE)))


@pytest.mark.parametrize("size", ["-1", "x", "9" * 30, ""])
def test_a_size_in_a_pax_header_that_is_none_is_damage(size, unpacked):
    with pytest.raises(ArchiveDamaged):
        unpacked(gzip.compress(with_pax({"size": size}) + tar_of(DATABASE)))


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_an_extended_header_of_any_claimed_size_is_not_read_into_memory(kind, unpacked):
    with pytest.raises(ArchiveUnsafe, match="extended"):
        unpacked(gzip.compress(entry("x", 2**21, type=kind).tobuf() + bytes(2**21) + tar_of(DATABASE)))


@pytest.mark.slow
def test_too_many_headers_and_entries_are_refused(unpacked, monkeypatch):
    monkeypatch.setattr(tar_entries, "MAX_FILES", 20)
    monkeypatch.setattr(tar_entries, "_MAX_HEADERS", 80)
    with pytest.raises(ArchiveUnsafe, match="20 entries"):
        unpacked(gzip.compress(tar_of({**DATABASE, **{f"{n}.txt": b"" for n in range(20)}})))
    with pytest.raises(ArchiveUnsafe, match="80 tar headers"):
        unpacked(gzip.compress(with_pax({"comment": "x"}, b"g") * 81 + tar_of(DATABASE)))


def test_a_bomb_is_refused_before_it_is_written(unpacked, monkeypatch):
    monkeypatch.setattr(unpacking, "free_bytes", lambda folder: 10**6)
    content = gzip.compress(tar_of({"000001.log": bytes(5 * 10**6), **DATABASE}))
    with pytest.raises(ArchiveUnsafe, match="unpack to"):
        unpacked(content)


def test_a_bomb_after_the_end_of_the_tar_file_is_refused(unpacked, monkeypatch):
    monkeypatch.setattr(unpacking, "free_bytes", lambda folder: 10**6)
    with pytest.raises(ArchiveUnsafe, match="unpack to"):
        unpacked(gzip.compress(tar_of(DATABASE) + bytes(5 * 10**6)))


def test_what_does_not_fit_is_said(unpacked, monkeypatch):
    monkeypatch.setattr(unpacking, "free_bytes", lambda folder: 2000)
    with pytest.raises(NoSpace, match="2000 are free"):
        unpacked(gzip.compress(tar_of(DATABASE)))


def test_a_disk_that_fills_up_meanwhile_is_said_and_nothing_is_left(largest_file, unpacked, tmp_path):
    content = gzip.compress(tar_of({**DATABASE, "000003.log": bytes(200_000)}))
    with largest_file(100_000), pytest.raises(NoSpace, match="target"):
        unpacked(content)


def test_no_database_in_it_is_alien(unpacked):
    with pytest.raises(ArchiveAlien, match="no LevelDB"):
        unpacked(gzip.compress(tar_of({"notes.txt": b"x"})))
    with pytest.raises(ArchiveAlien, match="no LevelDB"):
        unpacked(gzip.compress(tar_of({})))


def test_a_part_of_a_database_is_alien(unpacked):
    part = {name: content for name, content in DATABASE.items() if name != "CURRENT"}
    with pytest.raises(ArchiveAlien, match="CURRENT and a MANIFEST"):
        unpacked(gzip.compress(tar_of(placed("event_registry_db/", part))))


@pytest.mark.parametrize("other", ["", "storage/event_registry_db/", "users_db/"])
def test_two_databases_are_alien_and_both_are_named(other, unpacked):
    with pytest.raises(ArchiveAlien) as caught:
        unpacked(gzip.compress(tar_of({**placed("event_registry_db/"), **placed(other)})))
    assert "event_registry_db/" in str(caught.value)
    assert (other or "the top of the archive") in str(caught.value)


@pytest.mark.parametrize(
    "place",
    ["Profile/Local Storage/leveldb/", "usr/src/app/storage/event_registry_db/", "_data/event_registry_db/", "db/"],
)
def test_one_database_is_taken_wherever_it_lies(place, unpacked):
    notes = {"notes.txt": b"x", "logs/000001.log": b"of a web server", "docs/CURRENT": b"x", "old/000007.ldb": b"x"}
    answer, files = unpacked(gzip.compress(tar_of({**placed("logs/", notes), **placed(place)})))
    assert files == DATABASE
    assert sorted(answer.ignored) == sorted(placed("logs/", notes))


BESIDE = [
    "previous-0123456789abcdef/", "previous-unread-01234567/", ".past-1/", ".restoring-1/event_registry_db/",
    "jobs_db/", "jobs_db.damaged/", ".jobs_db.creating/",
]  # fmt: skip


@pytest.mark.parametrize("storage", ["", "storage/", "usr/src/app/storage/"])
@pytest.mark.parametrize("beside", [BESIDE[:1], BESIDE[1:2], BESIDE])
def test_of_our_own_storage_the_live_database_is_meant(storage, beside, unpacked):
    other = {**DATABASE, "000003.log": b"older"}
    files = [placed(storage + folder, other) for folder in beside]
    whole = {name: content for each in files for name, content in each.items()}
    assert unpacked(gzip.compress(tar_of({**whole, **placed(storage + "event_registry_db/")})))[1] == DATABASE


@pytest.mark.parametrize(
    "places",
    [["previous-1/", "previous-2/"], ["previous-1/", "other/event_registry_db/"], ["a/event_registry_db/", "b/db/"]],
)
def test_which_of_two_databases_is_meant_is_asked_if_no_place_says_so(places, unpacked):
    files = [placed(place) for place in places]
    with pytest.raises(ArchiveAlien, match="which one is meant"):
        unpacked(gzip.compress(tar_of({name: content for each in files for name, content in each.items()})))


def test_files_of_databases_in_very_many_folders_are_refused(unpacked, monkeypatch):
    monkeypatch.setattr(any_tar, "_MAX_CANDIDATES", 20)
    with pytest.raises(ArchiveUnsafe, match="20 folders"):
        unpacked(gzip.compress(tar_of({**DATABASE, **{f"{n}/CURRENT": b"" for n in range(20)}})))


def test_a_gzip_file_without_a_tar_file_is_alien(unpacked):
    with pytest.raises(ArchiveAlien, match="no tar file"):
        unpacked(gzip.compress(b"just a text" * 1000))


@pytest.mark.parametrize("current", [b"", b"MANIFEST-000009\n", b"../../x\n", b"000003.log\n", b"\xff" * 3000])
def test_a_current_that_names_no_manifest_of_the_archive_is_damage(current, unpacked):
    with pytest.raises(ArchiveDamaged, match="CURRENT"):
        unpacked(gzip.compress(tar_of({**DATABASE, "CURRENT": current})))


@pytest.mark.slow
def test_every_truncation_is_an_incomplete_archive(unpacked):
    content = gzip.compress(tar_of(DATABASE))
    for size in range(0, len(content), 7):
        with pytest.raises(ArchiveIncomplete):
            unpacked(content[:size])


def test_a_tar_file_that_was_cut_before_it_was_compressed_is_incomplete(unpacked):
    whole = tar_of(DATABASE)
    for size in (0, 512, 700, 1024, 3000):
        with pytest.raises(ArchiveIncomplete):
            unpacked(gzip.compress(whole[:size]))
    without_end = tar_of(DATABASE).rstrip(b"\0")
    with pytest.raises(ArchiveIncomplete, match="did not come to its end"):
        unpacked(gzip.compress(without_end + bytes(-len(without_end) % 512)))


def test_a_wrong_checksum_is_damage(unpacked):
    content = bytearray(gzip.compress(tar_of(DATABASE)))
    content[-8] ^= 1
    with pytest.raises(ArchiveDamaged, match="CRC"):
        unpacked(bytes(content))
    content[-8] ^= 1
    content[-1] ^= 1
    with pytest.raises(ArchiveDamaged, match="length"):
        unpacked(bytes(content))


@pytest.mark.parametrize("more", [b"x", b"\0\0x", b"\x1f\x8b\x09" + bytes(20), gzip.compress(b"more", mtime=0)])
def test_what_follows_the_end_is_damage(more, unpacked):
    with pytest.raises(ArchiveDamaged):
        unpacked(gzip.compress(tar_of(DATABASE)) + more)


def test_an_archive_of_ours_with_a_broken_mark_is_never_taken_as_a_foreign_one(own_bytes, unpacked):
    for content in (own_bytes, own_bytes[:-5], b"\x1f\x8b\x08\0" + bytes(6) + own_bytes[19:]):
        with pytest.raises((ArchiveDamaged, ArchiveIncomplete)):
            unpacked(content)
    neither = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + own_bytes[19:-1] + b"\1"
    with pytest.raises(ArchiveDamaged, match="EventVault"):
        unpacked(neither)


@pytest.mark.slow
def test_an_archive_of_ours_that_was_packed_anew_is_checked_against_its_manifest(own_bytes, unpacked, database_files):
    whole = gzip.decompress(own_bytes)
    answer, files = unpacked(gzip.compress(whole))
    assert files == database_files
    assert answer.manifest is not None
    assert answer.manifest.events == 2
    place = whole.index(database_files["000005.ldb"])
    with pytest.raises(ArchiveDamaged, match=r"000005\.ldb is not the file"):
        unpacked(gzip.compress(whole[:place] + b"?" + whole[place + 1 :]))


def test_a_manifest_of_another_program_is_ignored(unpacked):
    answer, files = unpacked(gzip.compress(tar_of({**placed("event_registry_db/"), "manifest.json": b'{"a": 1}'})))
    assert (answer.ignored, answer.manifest) == (["manifest.json"], None)
    assert files == DATABASE


def test_a_manifest_of_a_later_format_is_too_new(unpacked):
    later = b'{"formatVersion": %d, "storeId": "x"}' % (manifest.FORMAT_VERSION + 1)
    with pytest.raises(ArchiveTooNew):
        unpacked(gzip.compress(tar_of({**placed("event_registry_db/"), "manifest.json": later})))


def test_unpacking_says_how_far_it_is(tmp_path):
    path = tmp_path / "foreign.tar.gz"
    path.write_bytes(gzip.compress(tar_of(DATABASE)))
    seen = []
    any_tar.unpack_foreign(path, tmp_path / "target", progress=lambda *step: seen.append(step))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


def test_a_target_that_is_there_is_left_alone(tmp_path):
    path = tmp_path / "foreign.tar.gz"
    path.write_bytes(gzip.compress(tar_of(DATABASE)))
    (tmp_path / "target").mkdir()
    with pytest.raises(FileExistsError):
        any_tar.unpack_foreign(path, tmp_path / "target")
    assert (tmp_path / "target").exists()
    with pytest.raises(BackupNotFound):
        any_tar.unpack_foreign(tmp_path / "none", tmp_path / "other")


@pytest.mark.slow
def test_memory_stays_small_whatever_a_hostile_archive_holds(tmp_path):
    """Long names, long pax values and a large file: the process's own memory hardly grows."""
    pieces = [with_pax({"path": f"{n:06d}/" + "y" * 4000, "comment": "z" * 900_000}) + entry("x").tobuf()
              for n in range(100)]  # fmt: skip
    large = entry("unrelated", 200 * 2**20).tobuf() + bytes(200 * 2**20)
    path = tmp_path / "foreign.tar.gz"
    squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
    path.write_bytes(
        b"".join(squeeze.compress(piece) for piece in [*pieces, large, tar_of(DATABASE)]) + squeeze.flush()
    )
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from eventvault.archive import any_tar

        def own_memory():
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

        began, most = own_memory(), 0
        def watch(done, total):
            global most
            most = max(most, own_memory())
        any_tar.unpack_foreign(Path(sys.argv[1]), Path(sys.argv[2]), progress=watch)
        print(max(most, own_memory()) - began)
    """)
    command = [sys.executable, "-c", script, path, tmp_path / "target"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    assert 0 < int(done.stdout) < 50 * 1024
    assert content_of(tmp_path / "target") == DATABASE


WHOLE = tar_of(placed("event_registry_db/"), entry("x" * 200), form=tarfile.GNU_FORMAT)
PAX = tar_of(placed("event_registry_db/"), entry("\u20ac" * 100), form=tarfile.PAX_FORMAT)


@settings(
    max_examples=200,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    whole=st.sampled_from([WHOLE, PAX]),
    inside=st.booleans(),
    several=st.lists(st.tuples(st.integers(0, 30_000), st.binary(max_size=12), st.integers(0, 700)), max_size=3),
)
def test_no_mutated_archive_does_more_than_raise_an_archive_error(whole, inside, several, tmp_path_factory):
    content = whole if inside else gzip.compress(whole)
    for place, new, skipped in several:
        place %= len(content)
        content = content[:place] + new + content[place + skipped :] or b"\0"
    folder = tmp_path_factory.mktemp("mutated")
    path = folder / "a.tar.gz"
    path.write_bytes(gzip.compress(content) if inside else content)
    try:
        answer = any_tar.unpack_foreign(path, folder / "target")
    except (ArchiveError, NoSpace):
        assert not (folder / "target").exists()
        assert several
    else:
        assert sorted(content_of(folder / "target")) == answer.files
        assert inside or content_of(folder / "target") == DATABASE
