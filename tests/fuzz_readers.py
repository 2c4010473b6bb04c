"""Coverage-guided fuzzing of everything that reads a file: each input is read, or refused by an MkfaError.

    python tests/fuzz_readers.py --inputs 100000 --seed 0 [--reader torch] [--engine atheris]

Inputs are mutations of small sound files: bytes, numbers, slices, splices, cuts, and changes inside the format (a
safetensors header, a pickle in its archive). An input that reaches lines of mkfa in a new order joins the corpus.
Every eighth input is traced (tracing costs ten times the reading). Each has two seconds of processor time and 512 MiB;
whatever else happens is written to `--crashes` and the exit code is 1. An endless loop in a C library ends the run
after 60 seconds; the input is then the file named in the last line. The engine "atheris" (pip install atheris) is
libFuzzer with the same limits and mutations.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import io
import json
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import types
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 2.0
HARD_SECONDS = 60
BYTES = 512 << 20
HERE = Path(__file__).parent

Mutate = Callable[[random.Random, bytes], bytes]


class TooLong(BaseException):
    """An input took more than its time."""


@dataclass(frozen=True)
class Target:
    """A reader: how its sound files look, and how to call it."""

    suffix: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    inside: Mutate | None = None


@dataclass
class Outcome:
    """What became of the inputs of one reader."""

    inputs: int = 0
    read: int = 0
    corpus: int = 0
    steps: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


# --- sound files -------------------------------------------------------------------------------------------------


def safetensors_seeds() -> list[bytes]:
    def pack(entries: dict[str, tuple[str, list[int], int]], **metadata: str) -> bytes:
        header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
        at = 0
        for key, (dtype, shape, size) in entries.items():
            header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + bytes(i * 37 % 61 for i in range(at))

    return [
        pack({"b.bias": ("F32", [2], 8), "b.weight": ("F32", [2, 1, 3, 3], 72), "z.weight": ("F32", [2, 3, 1, 1], 24)}),
        pack({"model.b.1.weight": ("F16", [2, 1, 1, 5], 20), "ema.b.1.weight": ("BF16", [2, 1, 1, 5], 20)}, arch="x"),
        pack({"a.weight": ("F8_E4M3", [2, 1, 2, 2], 8), "n": ("I64", [], 8), "d.weight": ("F64", [2, 1, 2, 1], 32)}),
    ]


def torch_seeds() -> list[bytes]:
    import torch

    def saved(value: Any, zipped: bool) -> bytes:
        buffer = io.BytesIO()
        torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
        return buffer.getvalue()

    torch.manual_seed(0)
    base = torch.randn(4, 1, 3, 3)
    values = [
        {"stem.weight": torch.randn(2, 3, 1, 1), "b.weight": base, "b.bias": torch.ones(4), "c.weight": base[1:]},
        {
            "state_dict": {"m.weight": torch.nn.Parameter(base.half())},
            "arch": "x",
            "epoch": 3,
            "optimizer": {"state": {0: {"exp_avg": base}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
        },
    ]
    made = [saved(value, zipped) for value in values for zipped in (True, False)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3, groups=2))
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.trace(net, torch.zeros(1, 2, 8, 8)), buffer)
    return [*made, buffer.getvalue()]


def bank_seeds() -> list[bytes]:
    import h5py
    import numpy as np

    from mkfa.banks.bank import Layer, Provenance, make_bank
    from mkfa.banks.bank_file import Analysis, write_analysis, write_bank

    rng = np.random.default_rng(0)
    layers = [
        (Layer(0, f"l{i}", i, 0.0, 3, k, k), rng.normal(size=(3, k, k)).astype(np.float32), None)
        for i, k in enumerate((3, 5, 3))
    ]
    bank = make_bank("x", layers, Provenance(source="s", skipped={"buffer": 1}, notes=("n",)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.h5"
        write_bank(bank, path)
        made = [path.read_bytes()]
        write_analysis(path, Analysis("a", {"v": np.arange(9.0)}, {"seed": 0}))
        made.append(path.read_bytes())
        with h5py.File(path, "r+") as f:  # as older banks are: what is wrong in the tables gets past the checksums
            f.visititems(lambda _, item: item.attrs.pop("checksum", None) and None)
        return [*made, path.read_bytes()]


def made_by(makers: str) -> Callable[[], list[bytes]]:
    """Return the seed that a module of makers has in `whole_model`."""

    def seeds() -> list[bytes]:
        spec = importlib.util.spec_from_file_location(makers, HERE / "readers" / f"{makers}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[makers] = module
        spec.loader.exec_module(module)
        return [module.whole_model()]

    return seeds


# --- readers -----------------------------------------------------------------------------------------------------


def read_bank(path: Path) -> object:
    from mkfa.banks.bank_file import read_analyses
    from mkfa.banks.bank_file import read_bank as read

    return read(path), read_analyses(path)


def harvest(path: Path) -> object:
    from mkfa.readers.harvesting import harvest as take

    return take(str(path))


OLD_WORDS = (b"0", b"1", b"2", b"F32", b"weight", b"b.", b"[", b"]", b"F16", b"F8_E4M3", b"ema")
NEW_WORDS = (
    b"-1",
    b"4294967296",
    b"1e9",
    b"3",
    b"[1]",
    b'"',
    b"null",
    b"BF16",
    b"F4",
    b"I8",
    b"bias",
    b"stages.1.",
    b"F32",
    b"F16",
    b"module.",
    b"weight",
)


def in_header(rng: random.Random, data: bytes) -> bytes:
    """Change the JSON of a safetensors file and keep its length field right."""
    if len(data) < 8:
        return data
    size = min(struct.unpack("<Q", data[:8])[0], len(data) - 8)
    text = data[8 : 8 + size]
    if rng.random() < 0.3:
        text = mutated(rng, text, b"")
    for old in rng.choices(OLD_WORDS, k=rng.choice((0, 1, 1, 2))):
        if text:
            new = rng.choice(NEW_WORDS)
            at = text.find(old, rng.randrange(len(text) + 1))
            text = text if at < 0 else text[:at] + new + text[at + len(old) :]
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


OPCODES = b"(.0125FIJKLMNPQRSTUVXabcdeghijlopqrstu})]\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8f\x94"


def in_pickle(rng: random.Random, data: bytes) -> bytes:
    """Change the pickle of a PyTorch file, inside a sound archive where it is one."""

    def change(part: bytes) -> bytes:
        out = bytearray(part)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            at = rng.randrange(len(out) + 1)
            numbers = [i for i in range(len(out) - 1) if out[i] == 0x4B]  # after BININT1: sizes, strides, offsets
            if numbers and rng.random() < 0.4:
                out[rng.choice(numbers) + 1] = rng.choice((0, 1, 2, 3, 4, 9, 27, 36, 255))
            elif rng.random() < 0.6:
                out[at : at + rng.randint(0, 2)] = bytes([rng.choice(OPCODES)])
            else:
                out = bytearray(mutated(rng, bytes(out), part))
        return bytes(out)

    if not data.startswith(b"PK"):
        return change(data[:800]) + data[800:]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            records = {info.filename: archive.read(info) for info in archive.infolist()}
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        ValueError,
        LookupError,
        OSError,
        EOFError,
        RuntimeError,
        OverflowError,
    ):
        return mutated(rng, data, b"")  # a former change damaged the archive
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")
        for name, part in records.items():
            archive.writestr(name, change(part) if name.endswith(".pkl") or rng.random() < 0.05 else part)
    return buffer.getvalue()


TARGETS = {
    "safetensors": Target(".safetensors", safetensors_seeds, harvest, in_header),
    "torch": Target(".pth", torch_seeds, harvest, in_pickle),
    "onnx": Target(".onnx", made_by("onnx_models"), harvest),
    "tflite": Target(".tflite", made_by("tflite_models"), harvest),
    "bank": Target(".h5", bank_seeds, read_bank),
}


# --- mutation ----------------------------------------------------------------------------------------------------

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    64,
    127,
    128,
    255,
    256,
    32767,
    65535,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    (1 << 63) - 1,
)


def mutated(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Return `data` after one to four changes; `other` is what slices may come from."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(9)
        if kind <= 1 and at < len(out):
            out[at] = out[at] ^ (1 << rng.randrange(8)) if kind else rng.randrange(256)
        elif kind <= 3:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) + rng.choice((-1, 0, 0, 1)) & ((1 << 8 * size) - 1)
            out[at : at + size] = number.to_bytes(size, rng.choice(("little", "little", "big")))
        elif kind == 4:
            del out[at : at + rng.choice((1, 2, 4, 8, 64, 512))]
        elif kind == 5:
            out[at:at] = out[(here := rng.randrange(len(out) + 1)) : here + rng.choice((1, 4, 16, 64))]
        elif kind == 6 and other:
            here, size = rng.randrange(len(other)), rng.choice((1, 4, 16, 64, 256))
            out[at : at + size] = other[here : here + size]
        elif kind == 7:
            out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8)))
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


# --- one input ---------------------------------------------------------------------------------------------------


class Probe:
    """Reads one input under limits of time and memory, and tells the pairs of lines of mkfa that ran in turn."""

    at_work = False

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.path = folder / f"input{target.suffix}"
        self.edges: set[tuple[object, int, int]] = set()
        self.last = 0

    def _trace(self, frame: types.FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename
        if "/mkfa/" not in name or name.endswith("timm_catalogue.py"):  # the catalogue is no input
            return None
        if event == "line":
            self.edges.add((frame.f_code, self.last, frame.f_lineno))
            self.last = frame.f_lineno
        return self._trace

    def run(self, data: bytes, *, guided: bool) -> tuple[bool, str]:
        """Return (whether it was read, "" or what went wrong)."""
        from mkfa.errors import MkfaError

        self.path.write_bytes(data)
        self.edges = set()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        Probe.at_work = True
        faulthandler.dump_traceback_later(HARD_SECONDS, exit=True)
        if guided:
            sys.settrace(self._trace)
        try:
            self.target.read(self.path)
        except MkfaError as error:
            text = str(error)
            if "\n" in text or len(text) > 1000 or error.exit_code not in (1, 2):
                return False, f"a message that is not one sentence: {text[:300]!r}"
            return False, ""
        except TooLong:
            return False, f"more than {SECONDS} s of processor time"
        except BaseException as error:  # any other error is the failure that is looked for
            return False, f"{type(error).__name__}: {error}"
        finally:
            Probe.at_work = False
            sys.settrace(None)
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_PROF, 0)
        return True, ""


def _too_long(*_: object) -> None:
    if Probe.at_work:
        raise TooLong


def limit_memory() -> None:
    """Let this process allocate `BYTES` more than it has."""
    have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (have + BYTES, hard))


def fuzz(name: str, inputs: int, seed: int, *, crashes: Path | None = None, limited: bool = True) -> Outcome:
    """Fuzz one reader; without `limited` the memory of the process is left as it is."""
    target, rng, outcome = TARGETS[name], random.Random(f"{seed} {name}"), Outcome()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        probe = Probe(target, Path(folder))
        print(f"{name}: the input at work is {probe.path}", file=sys.stderr, flush=True)
        corpus = target.seeds()
        former = signal.signal(signal.SIGPROF, _too_long)
        before = resource.getrlimit(resource.RLIMIT_AS)
        known: set[tuple[object, int, int]] = set()
        try:
            for sound in corpus:
                _, problem = probe.run(sound, guided=False)  # the first run imports modules
                if limited:
                    limit_memory()
                read, problem = probe.run(sound, guided=True)
                known |= probe.edges
                if problem or (not read and name != "torch"):
                    outcome.failures.append(f"a sound file is not read: {problem}")
            start = time.monotonic()
            while outcome.inputs < inputs:
                parent = rng.choice(corpus if rng.random() < 0.5 else corpus[-20:])
                inside = target.inside is not None and rng.random() < 0.6
                change = target.inside if inside and target.inside else None
                data = change(rng, parent) if change else mutated(rng, parent, rng.choice(corpus))
                began = time.process_time()
                read, problem = probe.run(data, guided=outcome.inputs % 8 == 0)
                outcome.slowest = max(outcome.slowest, time.process_time() - began)
                outcome.inputs += 1
                outcome.read += read
                if problem:
                    _keep(outcome, name, data, problem, crashes)
                if not probe.edges <= known and len(data) < 1 << 16:
                    known |= probe.edges
                    corpus.append(data)
            outcome.seconds = time.monotonic() - start
        finally:
            signal.signal(signal.SIGPROF, former)
            resource.setrlimit(resource.RLIMIT_AS, before)
        outcome.corpus, outcome.steps = len(corpus), len(known)
    return outcome


def _keep(outcome: Outcome, name: str, data: bytes, problem: str, crashes: Path | None) -> None:
    where = ""
    if crashes is not None:
        crashes.mkdir(parents=True, exist_ok=True)
        where = f" (kept as {crashes / f'{name}-{outcome.inputs}'})"
        (crashes / f"{name}-{outcome.inputs}").write_bytes(data)
    outcome.failures.append(f"{name} input {outcome.inputs}: {problem}{where}")


def with_atheris(name: str, inputs: int, seed: int, crashes: Path) -> None:
    """Hand over to libFuzzer; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["mkfa"]):
        import mkfa.readers.formats
        import mkfa.readers.graphs.onnx
        import mkfa.readers.graphs.tflite
        import mkfa.readers.harvesting
        import mkfa.readers.tensors.checkpoint
        import mkfa.readers.tensors.inert_pickle
        import mkfa.readers.tensors.pytorch
        import mkfa.readers.tensors.select
        import mkfa.storage.result_files  # noqa: F401
    target = TARGETS[name]
    crashes.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for i, sound in enumerate(target.seeds()):
            (corpus / str(i)).write_bytes(sound)
        probe = Probe(target, Path(folder))
        signal.signal(signal.SIGPROF, _too_long)

        def one(data: bytes) -> None:
            _, problem = probe.run(data, guided=False)
            if problem:
                raise RuntimeError(problem)

        def change(data: bytes, size: int, number: int) -> bytes:
            rng = random.Random(number)
            if target.inside is not None and rng.random() < 0.5:
                return target.inside(rng, data)[:size]
            return bytes(atheris.Mutate(data, size))

        options = [f"-runs={inputs}", f"-seed={seed + 1}", f"-artifact_prefix={crashes}/", "-max_len=65536"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=change)
        atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=list(TARGETS), action="append", help="one or more; all without it")
    parser.add_argument("--engine", choices=["own", "atheris"], default="own", help="atheris: one reader")
    parser.add_argument("--crashes", type=Path, default=Path("fuzz_crashes"), help="where failing inputs are written")
    options = parser.parse_args()
    names = options.reader or list(TARGETS)
    if options.engine == "atheris":
        with_atheris(names[0], options.inputs, options.seed, options.crashes)
    failed = False
    for name in names:
        done = fuzz(name, options.inputs, options.seed, crashes=options.crashes)
        print(
            f"{name}: {done.inputs} inputs in {done.seconds / 60:.1f} min, {done.read} of them read, "
            f"corpus {done.corpus}, {done.steps} steps covered, slowest {done.slowest:.2f} s, "
            f"{len(done.failures)} failures",
            flush=True,
        )
        for failure in done.failures[:20]:
            print("  " + failure, flush=True)
        failed |= bool(done.failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
