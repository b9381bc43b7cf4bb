"A file is whole or absent, whenever its writer is stopped; what cannot be read is named."
import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from semst import data
from semst.files import (
    InputError,
    atomic,
    atomic_folder,
    check_file,
    digest,
    flush,
    read_json,
    read_weights,
    remove_drafts,
    remove_folder,
    save_weights,
    write_json,
    write_text,
)

# Each scenario starts from `before`, and a stop at any call must leave `before` or `after`.
KILLED = '''
import os, signal, sys
from pathlib import Path
from semst.files import atomic, atomic_folder, remove_folder, write_json

folder, scenario = Path(sys.argv[1]), sys.argv[2]

def replace():
    with atomic(folder / "a.txt") as draft:
        with draft.open("w") as file:
            file.write("new " * 5000)
            file.flush()
            file.write("new " * 5000)

def make():
    with atomic_folder(folder / "made") as draft:
        (draft / "one").write_text("1" * 5000)
        (draft / "sub").mkdir()
        (draft / "sub" / "two").write_text("2" * 5000)

def remove():
    remove_folder(folder / "old")

def swap():
    "The order of a checkpoint: the newer one is made, then the older one goes."
    make()
    remove()

def state():
    "All that can be seen under names that are not hidden."
    files = [f for f in sorted(folder.rglob("*")) if f.is_file()]
    names = [f.relative_to(folder) for f in files]
    return {str(n): (folder / n).read_text() for n in names if not str(n).startswith(".")}

def setup():
    import shutil
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "one").write_text("o" * 5000)
    (folder / "old" / "two").write_text("p" * 5000)
    (folder / "a.txt").write_text("old " * 5000)

def killer(at):
    seen = 0
    def profile(frame, event, what):
        nonlocal seen
        if event not in ("c_call", "c_return"):
            return
        if getattr(what, "__module__", "") not in ("posix", None, "io", "_io"):
            return
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
    return profile

seen, at, finished = [], 0, False
while not finished:
    at += 1
    setup()
    child = os.fork()
    if not child:
        sys.setprofile(killer(at))
        globals()[scenario]()
        sys.setprofile(None)
        os._exit(0)
    finished = os.waitpid(child, 0)[1] == 0
    if state() not in seen:
        seen.append(state())
print(at)
import json
print(json.dumps(seen))
'''


def survive(tmp_path, scenario):
    "Kill a scenario at each of its calls; the number of kills and the states that were seen."
    command = [sys.executable, "-c", KILLED, str(tmp_path / "place"), scenario]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kills, states = out.splitlines()
    return int(kills) - 1, json.loads(states)


posix = pytest.mark.skipif(os.name == "nt", reason="kills by a signal")


@posix
def test_a_replaced_file_is_old_or_new_at_every_kill(tmp_path):
    kills, states = survive(tmp_path, "replace")
    assert kills >= 20
    assert [s["a.txt"] for s in states] == ["old " * 5000, "new " * 10000]


@posix
def test_a_folder_is_absent_or_whole_at_every_kill(tmp_path):
    kills, states = survive(tmp_path, "make")
    assert kills >= 40 and len(states) == 2
    assert not [name for name in states[0] if name.startswith("made")]
    assert states[1] == states[0] | {"made/one": "1" * 5000, "made/sub/two": "2" * 5000}


@posix
def test_a_folder_is_removed_whole_at_every_kill(tmp_path):
    kills, states = survive(tmp_path, "remove")
    assert kills >= 6
    assert [sorted(s) for s in states] == [["a.txt", "old/one", "old/two"], ["a.txt"]]


@posix
def test_one_of_two_checkpoints_is_whole_at_every_kill(tmp_path):
    kills, states = survive(tmp_path, "swap")
    old, new = {"old/one", "old/two"}, {"made/one", "made/sub/two"}
    assert kills >= 46
    assert [set(s) - {"a.txt"} for s in states] == [old, old | new, new]


# ---- what survives a power cut: bytes, then the name, then the folder

@pytest.fixture
def calls(monkeypatch):
    "The names of what is flushed and renamed, in order."
    seen = []
    real_fsync, real_replace, real_rename = os.fsync, os.replace, os.rename
    opened = {}
    real_open = os.open

    def spy_open(path, *args, **kwargs):
        handle = real_open(path, *args, **kwargs)
        opened[handle] = Path(os.fspath(path))
        return handle

    def spy_fsync(handle):
        seen.append(("fsync", opened[handle]))
        real_fsync(handle)

    def spy_replace(source, target):
        seen.append(("rename", Path(target)))
        real_replace(source, target)

    def spy_rename(source, target):
        seen.append(("rename", Path(target)))
        real_rename(source, target)

    monkeypatch.setattr(os, "open", spy_open)
    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    monkeypatch.setattr(os, "rename", spy_rename)
    return seen


def test_a_file_is_flushed_before_its_name_and_its_folder_after(tmp_path, calls):
    with atomic(tmp_path / "a.txt") as draft:
        draft.write_text("x")
    rename = ("rename", tmp_path / "a.txt")
    assert calls == [("fsync", draft), rename, ("fsync", tmp_path)]


def test_all_files_of_a_folder_are_flushed_before_its_name(tmp_path, calls):
    with atomic_folder(tmp_path / "a") as draft:
        (draft / "sub").mkdir()
        (draft / "one").write_text("1")
        (draft / "sub" / "two").write_text("2")
    assert calls[-2:] == [("rename", tmp_path / "a"), ("fsync", tmp_path)]
    flushed = [path for _, path in calls[:-2]]
    assert set(flushed) == {draft / "one", draft / "sub" / "two", draft / "sub", draft}
    assert flushed[-1] == draft


def test_a_disk_that_cannot_flush_folders_is_served_one_that_fails_is_not(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x")
    for number, path in ((errno.EINVAL, tmp_path), (errno.EIO, tmp_path / "a.txt")):
        def fails(handle, number=number):
            raise OSError(number, "no")
        monkeypatch.setattr(os, "fsync", fails)
        if number == errno.EINVAL:
            flush(path)
        else:
            with pytest.raises(OSError):
                flush(path)


def test_a_file_that_could_not_be_flushed_replaces_nothing(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "old")

    def fails(handle):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"):
        write_text(tmp_path / "a.txt", "new")
    assert [f.name for f in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


# ---- failures, names, links

@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_all_as_it_was(tmp_path, error):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error):
        with atomic(tmp_path / "a.txt") as draft:
            draft.write_text("half")
            raise error
    with pytest.raises(error):
        with atomic_folder(tmp_path / "folder") as draft:
            (draft / "half").write_text("half")
            raise error
    assert [f.name for f in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_links_are_replaced_and_never_written_through(tmp_path):
    for name, link in (("hard", os.link), ("soft", os.symlink)):
        (tmp_path / name).write_text("input")
        link(tmp_path / name, tmp_path / f"{name}_out")
        write_text(tmp_path / f"{name}_out", "output")
        assert (tmp_path / name).read_text() == "input"
        assert (tmp_path / f"{name}_out").read_text() == "output"
        assert not (tmp_path / f"{name}_out").is_symlink()


def test_the_draft_keeps_the_suffix_and_is_hidden(tmp_path):
    with atomic(tmp_path / "a.png") as draft:
        assert draft.parent == tmp_path and draft.suffix == ".png" and draft.name[0] == "."
        with atomic(tmp_path / "a.png") as other:
            assert other != draft


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "x." + "y" * 250, "z" * 255])
def test_names_as_long_as_the_system_allows(tmp_path, name):
    write_text(tmp_path / name, "x")
    assert [f.name for f in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.json")
    write_json(tmp_path / name, {"name": name})
    write_text(tmp_path / "list.txt", name)
    assert read_json(tmp_path / name) == {"name": name}
    assert (tmp_path / "list.txt").read_bytes() == b"caf\xe9.json"


@posix
def test_a_file_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("x")
    save_weights({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    modes = [stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()]
    assert modes[0] == modes[1]


def test_two_writers_of_one_file_leave_one_whole_file(tmp_path):
    texts = [str(i) * 20000 for i in range(8)]
    threads = [threading.Thread(target=write_text, args=(tmp_path / "a", t)) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_text() in texts
    assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="folder"):
        with atomic_folder(tmp_path / "folder"):
            raise AssertionError("never runs")
    with pytest.raises(OSError, match=r"'[^']*folder'$"):
        write_text(tmp_path / "folder", "x")
    with pytest.raises(FileNotFoundError, match=r"nowhere.a\.txt'$"):
        write_text(tmp_path / "nowhere" / "a.txt", "x")
    assert [f.name for f in tmp_path.iterdir()] == ["folder"]


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="input.png"):
        with atomic(tmp_path / "a.png"):
            open(tmp_path / "input.png")


def test_old_drafts_are_removed_when_asked(tmp_path):
    (tmp_path / ".draft-1-ab").mkdir()
    (tmp_path / ".draft-1-ab" / "x").write_text("x")
    (tmp_path / ".draft-1-cd.png").write_text("x")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").write_text("x")
    (tmp_path / ".draft-1-link").symlink_to(tmp_path / "kept")
    remove_drafts(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "x").exists()
    remove_folder(tmp_path / "kept")
    assert not list(tmp_path.iterdir())


# ---- reading

def complaint(function, path, *args):
    "The one line that an unusable file gets; it begins with the file's name."
    with pytest.raises(InputError) as caught:
        function(path, *args)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def test_the_error_has_one_public_name():
    assert data.InputError is InputError
    assert f"{InputError.__module__}.{InputError.__qualname__}" == "semst.data.InputError"


@pytest.mark.parametrize("reader", [check_file, digest, read_json, read_weights])
def test_what_is_no_file_is_named(tmp_path, reader):
    assert "no such file" in complaint(reader, tmp_path / "nothing")
    assert "is a folder" in complaint(reader, tmp_path)
    (tmp_path / "file").write_text("x")
    assert "no such file" in complaint(reader, tmp_path / "file" / "below")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "a pipe" in complaint(reader, tmp_path / "pipe")          # and does not wait
    with pytest.raises(InputError, match="is no name of a file"):
        reader("a\0b")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    assert "may not be read" in complaint(check_file, tmp_path / "secret")


def test_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(tmp_path / "a") == wanted


DAMAGED_JSON = [b"", b"{", b'{"a": }', b"\xff\xfe\x00", b"[" * 200_000, b"9" * 5000, b"\0" * 64]


@pytest.mark.parametrize("content", DAMAGED_JSON, ids=range(len(DAMAGED_JSON)))
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert "is damaged" in complaint(read_json, tmp_path / "a.json")


@pytest.mark.parametrize("text", ["[]", "null", "5", '"text"', "true"])
def test_json_of_another_kind_is_damaged(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    read_json(tmp_path / "a.json")
    assert "holds no dict" in complaint(read_json, tmp_path / "a.json", dict)


def test_a_huge_json_is_not_read(tmp_path):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(2**40)                                # sparse: nothing is written
    assert "are not read" in complaint(read_json, tmp_path / "a.json")


# ---- weights

def test_weights_come_back_with_their_notes(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    save_weights(network, tmp_path / "w.safetensors", config='{"a": 1}')
    notes, state = read_weights(tmp_path / "w.safetensors")
    assert notes == {"config": '{"a": 1}'}
    assert state.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(state[name], value) and state[name].dtype == value.dtype
    save_weights(state, tmp_path / "again.safetensors", config='{"a": 1}')
    assert digest(tmp_path / "again.safetensors") == digest(tmp_path / "w.safetensors")


def test_a_file_stays_readable_while_it_is_replaced(tmp_path):
    save_weights({"w": torch.zeros(1000)}, tmp_path / "w.safetensors")
    _, state = read_weights(tmp_path / "w.safetensors")
    save_weights({"w": torch.ones(1000)}, tmp_path / "w.safetensors")
    assert state["w"].sum() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64,
                                   torch.float8_e4m3fn])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path, dtype, bad):
    from safetensors.torch import save_file
    value = torch.zeros(10).index_fill(0, torch.tensor(7), bad).to(dtype)
    if value.float().isfinite().all():
        pytest.skip("this type has no infinity")
    with pytest.raises(InputError, match="its weight layer.w is not finite"):
        save_weights({"ok": torch.zeros(2), "layer.w": value}, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())
    save_file({"layer.w": value}, tmp_path / "w.safetensors")
    assert "weight layer.w" in complaint(read_weights, tmp_path / "w.safetensors")


def test_a_pickle_is_refused_and_not_run(tmp_path):
    for new in (True, False):
        torch.save({"w": torch.zeros(2)}, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
        assert "could run any code" in complaint(read_weights, tmp_path / "a.pth")


def header(text, body=b""):
    text = text if isinstance(text, bytes) else text.encode()
    return len(text).to_bytes(8, "little") + text + body


ZEROS = bytes(16)
HOSTILE = {
    "empty": b"",
    "short": b"\1\0\0",
    "text": b"hello, this is a text and nothing else",
    "header past the end": (1000).to_bytes(8, "little") + b"{}",
    "absurd header": (2**63 - 1).to_bytes(8, "little") + b"{}",
    "all ones": b"\xff" * 64,
    "no object": header("[]"),
    "no json": header("{"),
    "deep": header("[" * 100_000),
    "data past the end": header('{"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}'),
    "negative": header('{"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}', ZEROS),
    "overflow": header('{"w": {"dtype": "F32", "shape": [4294967296, 4294967296, 4294967296], '
                       '"data_offsets": [0, 16]}}', b"0" * 16),
    "other shape": header('{"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}}', ZEROS),
    "unknown type": header('{"w": {"dtype": "X9", "shape": [4], "data_offsets": [0, 16]}}', ZEROS),
    "notes of numbers": header('{"__metadata__": {"a": 5}}'),
    "tail": header('{"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}', b"0" * 99),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_safetensors_is_named(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    complaint(read_weights, tmp_path / "w.safetensors")


def test_every_truncation_is_damage(tmp_path):
    save_weights({"w": torch.arange(40.0), "v": torch.ones(3, 3)}, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    for length in range(0, len(whole), 3):
        (tmp_path / "w.safetensors").write_bytes(whole[:length])
        complaint(read_weights, tmp_path / "w.safetensors")


def test_the_module_does_not_import_torch():
    code = "import sys, semst.files; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"
