"""Several sources into the library: skipped when done, summed up when some fail."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from mkfa.banks.bank_file import read_bank, write_bank
from mkfa.banks.library import library_folder, load_bank
from mkfa.errors import MkfaError
from mkfa.readers import collect as module
from mkfa.readers.collect import expand_sources, harvest_all

STEM = np.ones((4, 3, 3, 3), np.float32)


@pytest.fixture
def checkpoints(tmp_path):
    paths = []
    for i in range(3):
        weight = np.random.default_rng(i).standard_normal((4, 1, 3, 3)).astype(np.float32)
        paths.append(tmp_path / f"net{i}.safetensors")
        save_file({"stem.weight": STEM, "blocks.0.conv_dw.weight": weight}, paths[-1])
    return paths


def states(done):
    return [h.state for h in done]


def test_each_source_becomes_a_bank_and_a_second_run_skips_it(checkpoints):
    sources = [str(p) for p in checkpoints]
    seen = []
    done = harvest_all(sources, on_result=seen.append)
    assert states(done) == ["harvested"] * 3
    assert seen == list(done)
    assert done.failure is None
    assert load_bank("net1").provenance.source == sources[1]
    assert states(harvest_all(sources)) == ["skipped"] * 3
    assert states(harvest_all(sources, force=True)) == ["harvested"] * 3


def test_one_failure_does_not_stop_the_rest_and_is_summed_up(checkpoints, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    loop = tmp_path / "loop.pth"
    loop.symlink_to(loop.name)
    done = harvest_all([str(checkpoints[0]), str(broken), str(checkpoints[1]), str(loop)])
    assert states(done) == ["harvested", "failed", "harvested", "failed"]
    assert "symbolic links" in str(done[3].error)
    error = done.failure
    assert error is not None
    assert error.exit_code == 1
    assert "2 of 4 networks" in str(error)
    assert "broken" in str(error)
    assert not (library_folder() / "broken.h5").exists()


@pytest.mark.parametrize(
    ("other", "force", "state"),
    [(0, False, "skipped"), (0, True, "harvested"), (1, True, "harvested"), (1, False, None)],
)
def test_a_bank_that_another_process_wrote_meanwhile_is_looked_at_again(checkpoints, monkeypatch, other, force, state):
    original, written = module.harvest, []

    def harvest(source, **options):
        if not written:  # what another process does between this one's first look and its write
            written.append(write_bank(original(str(checkpoints[other]), name="net0"), library_folder() / "net0.h5"))
        return original(source, **options)

    monkeypatch.setattr(module, "harvest", harvest)
    done = harvest_all([str(checkpoints[0])], force=force)
    if state is None:
        assert states(done) == ["failed"] and load_bank("net0").provenance.source == str(checkpoints[other])
    else:
        assert states(done) == [state] and load_bank("net0").provenance.source == str(checkpoints[0])


def test_a_damaged_bank_is_harvested_again(checkpoints):
    harvest_all([str(checkpoints[0])])
    (library_folder() / "net0.h5").write_bytes(b"\x89HDF\r\n\x1a\nrest")
    (again,) = harvest_all([str(checkpoints[0])])
    assert again.state == "harvested"
    assert "could not be read (is damaged" in again.changes[0]
    assert len(read_bank(library_folder() / "net0.h5")) == 4


def test_globs_match_files_first_then_timm_names(checkpoints, tmp_path):
    assert expand_sources([str(tmp_path / "net*.safetensors"), str(checkpoints[0])]) == tuple(map(str, checkpoints))
    names = expand_sources(["convnext_atto*"])
    assert len(names) > 1 and all(n.startswith("convnext_atto") for n in names)
    with pytest.raises(MkfaError, match="matches no"):
        expand_sources(["zzz*"])


def test_a_file_is_listed_once_by_whatever_path(checkpoints, monkeypatch):
    monkeypatch.chdir(checkpoints[0].parent)
    (checkpoints[0].parent / "now.safetensors").symlink_to("net0.safetensors")
    paths = ["net0.safetensors", "./net0.safetensors", str(checkpoints[0]), "now.safetensors"]
    assert expand_sources(paths) == ("net0.safetensors", "now.safetensors")  # a link has a name of its own


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("https://huggingface.co/timm/convnext_atto.d2_in1k", "hf-hub:timm/convnext_atto.d2_in1k"),
        ("https://huggingface.co/timm/convnext_atto.d2_in1k/", "hf-hub:timm/convnext_atto.d2_in1k"),
        ("https://hub.example/me/net/tree/v1.0", "hf-hub:me/net@v1.0"),
    ],
)
def test_the_address_of_a_repositorys_page_stands_for_the_repository(address, source):
    assert expand_sources([address]) == (source,)


@pytest.mark.parametrize("rest", ["", "/timm", "/timm/net/blob/main/model.safetensors"])
def test_other_addresses_are_refused(rest):
    with pytest.raises(MkfaError, match="is not the page of a hub repository; write hf-hub:OWNER/NAME"):
        expand_sources([f"https://huggingface.co{rest}"])
