"""Banks that exist when their network is harvested again: kept, updated, or refused; never lost without a word."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hub_server import CONVNEXT_ATTO, HubServer, write_safetensors
from onnx_models import W, conv, model
from safetensors.numpy import save_file
from test_onnx_tensors import external

from mkfa.banks.bank_file import Analysis, read_analyses, read_bank, write_analysis, write_bank
from mkfa.banks.library import library_folder, load_bank
from mkfa.errors import InUseError, MkfaError
from mkfa.readers.collect import harvest_all
from mkfa.readers.former import same_source
from mkfa.readers.harvesting import harvest, network_name

NOTES = Analysis("assign.gaussian", {"best": np.arange(4)}, {"seed": 0})


def write(path, seed=0, stem=3, **more):
    """Write a small network; each seed gives other weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weight = np.random.default_rng(seed).standard_normal((4, 1, 3, 3)).astype(np.float32)
    tensors = {"stem.weight": np.ones((4, stem, 3, 3), np.float32), "blocks.0.conv_dw.weight": weight}
    save_file(tensors, path, **more)
    return str(path)


def run(*sources, **options):
    return list(harvest_all(list(map(str, sources)), **options))


def bank_file(name):
    return library_folder() / f"{name}.h5"


@pytest.fixture
def first(tmp_path):
    """A checkpoint whose bank is in the library, with an analysis."""
    path = tmp_path / "run1" / "best.safetensors"
    (done,) = run(write(path))
    assert done.state == "harvested" and not done.changes
    write_analysis(done.path, NOTES)
    return path


def assert_kept(name="best", seed=0):
    weight = np.random.default_rng(seed).standard_normal((4, 1, 3, 3)).astype(np.float32)
    assert np.array_equal(load_bank(name).of_layer(0).weight, weight[:, 0])
    assert list(read_analyses(bank_file(name))) == ["assign.gaussian"]


@pytest.mark.parametrize("spelling", ["{f}", "best.safetensors", "./best.safetensors", "../run1/best.safetensors", "~"])
def test_every_spelling_of_a_path_is_the_same_network(first, monkeypatch, spelling):
    monkeypatch.chdir(first.parent)
    monkeypatch.setenv("HOME", str(first.parent))
    source = "~/best.safetensors" if spelling == "~" else spelling.format(f=first)
    (done,) = run(source)
    assert (done.state, done.changes) == ("skipped", ())
    assert load_bank("best").provenance.source == str(first)
    assert_kept()


def test_links_to_a_file_and_to_its_folder_are_the_same_network(first, tmp_path):
    (tmp_path / "now").symlink_to(first.parent)
    (tmp_path / "best.safetensors").symlink_to(first)
    for source in (tmp_path / "now" / first.name, tmp_path / "best.safetensors"):
        (done,) = run(source)
        assert (done.state, done.changes) == ("skipped", ())
    assert_kept()


def test_another_network_of_the_same_name_in_another_folder_is_refused(first, monkeypatch):
    other = write(first.parent.parent / "run2" / "best.safetensors", 1)
    monkeypatch.chdir(first.parent.parent / "run2")
    for source in ("best.safetensors", other):
        (done,) = run(source)
        assert done.state == "failed" and done.layers == 0
        text = f"best: is in the library already, harvested from another network ({first}); pass --name"
        assert str(done.error).startswith(text)
    assert_kept()
    (named,) = run(other, name="second")
    assert (named.state, load_bank("second").provenance.source) == ("harvested", other)
    assert_kept()


def test_a_folder_of_the_same_name_is_refused_too(tmp_path, monkeypatch):
    for place, seed in (("run1", 0), ("run2", 1)):
        write(tmp_path / place / "ck" / "model.safetensors", seed)
    monkeypatch.chdir(tmp_path / "run1")
    assert run("ck")[0].state == "harvested"
    monkeypatch.chdir(tmp_path / "run2")
    (done,) = run("ck")
    assert done.state == "failed" and str(tmp_path / "run1" / "ck") in str(done.error)
    (tmp_path / "run3").mkdir()
    monkeypatch.chdir(tmp_path / "run3")
    assert run("ck")[0].state == "failed"  # here the name means nothing


def test_changed_weights_at_the_same_path_are_said_and_replaced_only_by_force(first):
    old = load_bank("best").provenance.source_sha256
    write(first, 1)
    (done,) = run(first)
    assert done.state == "failed"
    for words in ("when it had other weights", old[:12], "the bank was kept", "--name", "--force"):
        assert words in str(done.error)
    assert_kept()
    (forced,) = run(first, force=True)
    assert forced.state == "harvested"
    assert forced.changes == (
        "The weights differ from those of the former bank, which is gone.",
        "The analyses stored in the former bank are gone: assign.gaussian.",
    )
    assert load_bank("best").provenance.source_sha256 != old and not read_analyses(bank_file("best"))


def test_force_keeps_analyses_of_the_same_filters_and_says_what_else_is_lost(first):
    assert run(first, training_set="mine")[0].state == "updated"
    (done,) = run(first, force=True)
    assert (done.state, done.changes) == ("harvested", ("The former bank said more: --training-set 'mine'.",))
    assert_kept()
    other = write(first.parent.parent / "b" / "best.safetensors", 1)
    (done,) = run(other, force=True)
    assert done.changes == (
        f"The former bank of this name, harvested from {first}, is gone.",
        "The analyses stored in the former bank are gone: assign.gaussian.",
    )


def test_the_same_bytes_elsewhere_are_the_same_network_and_this_is_said(first, tmp_path):
    copy = tmp_path / "copy" / first.name
    copy.parent.mkdir()
    copy.write_bytes(first.read_bytes())
    (done,) = run(copy)
    assert done.state == "skipped" and f"was harvested from {first}, whose weights are the same" in done.changes[0]
    assert_kept()


def test_a_file_with_other_metadata_is_another_file(first):
    write(first, 0, metadata={"epoch": "2"})
    assert run(first)[0].state == "failed"
    assert_kept()


@pytest.mark.parametrize(
    ("option", "field"), [("training_set", "training_set"), ("task", "task"), ("licence", "licence")]
)
def test_provenance_that_options_state_is_heeded(first, option, field):
    (done,) = run(first, **{option: "mine"})
    assert done.state == "updated" and f"--{option.replace('_', '-')} changed" in done.changes[-1]
    assert getattr(load_bank("best").provenance, field) == "mine"
    (again,) = run(first, **{option: "mine"})
    assert (again.state, again.changes) == ("skipped", ())
    (other,) = run(first, **({"task": "t"} if option != "task" else {"licence": "l"}))
    assert other.state == "updated"
    assert getattr(load_bank("best").provenance, field) == "mine"  # stated before, not taken back
    assert_kept()


def test_an_architecture_that_gives_the_same_layers_is_recorded(tmp_path):
    path = tmp_path / "atto.safetensors"
    write_safetensors(path, CONVNEXT_ATTO)
    assert run(path)[0].state == "harvested"
    known = load_bank("atto")
    plain = replace(known.provenance, architecture="", rule="shape")
    write_bank(replace(known, provenance=plain), bank_file("atto"))
    (done,) = run(path, arch="convnext_atto")
    assert done.state == "updated"
    assert (load_bank("atto").provenance.architecture, load_bank("atto").provenance.rule) == (
        "convnext_atto",
        "catalogue",
    )
    with pytest.raises(MkfaError, match="nosuch"):
        raise run(path, arch="nosuch_network")[0].error  # not skipped over
    layers = tuple(replace(layer, dilation=(-1, -1)) for layer in known.layers)
    write_bank(replace(known, layers=layers, provenance=plain), bank_file("atto"))
    write_analysis(bank_file("atto"), NOTES)
    (done,) = run(path, arch="convnext_atto")
    assert done.state == "failed" and "--arch would change its filters or layers; pass --name" in str(done.error)
    (done,) = run(path)
    assert done.state == "skipped" and "reads other filters or layers" in done.changes[0]
    assert list(read_analyses(bank_file("atto"))) == ["assign.gaussian"]
    (done,) = run(path, arch="convnext_atto", force=True)
    assert "analyses stored in the former bank are gone" in done.changes[-1]


def test_weights_beside_the_source_belong_to_its_identity(tmp_path):
    paths = []
    for place, weight in (("run1", W), ("run2", W + 1)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "w.bin").write_bytes(weight.tobytes())
        paths.append(tmp_path / place / "net.onnx")
        paths[-1].write_bytes(model([conv("w")], [external("w", W.shape, location="w.bin")]).SerializeToString())
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert run(paths[0])[0].state == "harvested"
    assert run(paths[0])[0].state == "skipped"
    (done,) = run(paths[1])
    assert done.state == "failed" and "another network" in str(done.error)
    (tmp_path / "run1" / "w.bin").write_bytes((W + 2).tobytes())
    (done,) = run(paths[0])
    assert done.state == "failed" and "the files beside it had other weights" in str(done.error)
    assert np.array_equal(load_bank("net").of_layer(0).weight, W[:, 0])


def test_two_files_of_one_name_in_one_command_get_names_that_tell_them_apart(tmp_path):
    a, b = (write(tmp_path / place / "best.safetensors", seed) for seed, place in enumerate("ab"))
    done = run(a, b)
    assert [(d.name, d.state) for d in done] == [("a-best", "harvested"), ("b-best", "harvested")]
    assert [load_bank(d.name).provenance.source for d in done] == [a, b]
    assert [d.state for d in run(a, b)] == ["skipped", "skipped"]
    assert [d.state for d in run(b, a)] == ["skipped", "skipped"]
    deep = [write(tmp_path / place / "x" / "ck" / "net.safetensors", seed) for seed, place in enumerate("cd")]
    assert [d.name for d in run(*deep)] == ["c-x-ck-net", "d-x-ck-net"]


def test_a_bank_that_has_the_plain_name_keeps_it(first, tmp_path):
    other = write(tmp_path / "run2" / "best.safetensors", 1)
    assert [(d.name, d.state) for d in run(first, other)] == [("best", "skipped"), ("run2-best", "harvested")]
    assert_kept()


def test_one_file_given_twice_is_one_network(first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("run1")
    assert [d.name for d in run(first, "run1/best.safetensors", "link/best.safetensors", tmp_path / "run1")] == [
        "best",
        "run1",
    ]


def test_one_file_under_two_names_is_said_to_be_one_network(first, tmp_path):
    (tmp_path / "latest.safetensors").symlink_to(first)
    (done,) = run(tmp_path / "latest.safetensors")
    assert (done.name, done.state) == ("latest", "harvested")
    assert done.changes == ("The same bytes are in the library as best too; count the network once.",)
    (again,) = run(tmp_path / "latest.safetensors")
    assert (again.state, again.changes) == ("skipped", ())


def test_a_name_that_comes_with_mkfa_is_hidden_with_a_word(tmp_path):
    (done,) = run(write(tmp_path / "mobilenet_v2.safetensors"))
    assert done.changes == ("The name now means this bank and no longer the one that comes with mkfa.",)


def test_a_bank_in_use_is_left_alone_even_by_force(first, opened_elsewhere):
    with opened_elsewhere(bank_file("best")):
        before = bank_file("best").read_bytes()
        for force in (False, True):
            (done,) = run(first, force=force)
            assert isinstance(done.error, InUseError)
        assert bank_file("best").read_bytes() == before


@pytest.mark.parametrize("kind", ["newer version", "other format", "no HDF5"])
def test_a_file_that_is_no_damaged_bank_is_replaced_only_by_force(first, kind):
    path = bank_file("best")
    if kind == "no HDF5":
        path.write_bytes(b"my notes")
    else:
        with h5py.File(path, "r+") as f:
            f.attrs["format_version" if kind == "newer version" else "format"] = 99 if kind == "newer version" else "x"
    before = path.read_bytes()
    (done,) = run(first)
    assert done.state == "failed" and "--force to replace it" in str(done.error)
    assert path.read_bytes() == before
    (done,) = run(first, force=True)
    assert done.state == "harvested" and "could not be read" in done.changes[0]
    assert len(read_bank(path)) == 4


def test_an_old_bank_without_digest_is_judged_by_its_filters(first):
    old = load_bank("best")
    bank_file("best").unlink()
    write_bank(replace(old, provenance=replace(old.provenance, source_sha256="")), bank_file("best"))
    assert run(first)[0].state == "skipped"
    write(first, 1)
    (done,) = run(first)
    assert done.state == "failed" and "digest not recorded" in str(done.error)
    other = replace(old.provenance, source_sha256="", source="")
    write_bank(replace(old, provenance=other), bank_file("best"))
    assert "another network (not recorded)" in str(run(first)[0].error)
    assert not same_source(str(first), other)


def test_a_network_in_memory_is_never_the_bank_of_a_file(tmp_path):
    bank = harvest({"blocks.0.conv_dw.weight": np.ones((4, 1, 3, 3), np.float32) / 3}, name="best")
    write_bank(bank, library_folder(create=True) / "best.h5")
    (done,) = run(write(tmp_path / "best.safetensors"))
    assert done.state == "failed" and "memory:state_dict" in str(done.error)


# The hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import huggingface_hub.constants as constants
    from huggingface_hub.utils import close_session

    for owner, seed in (("me", 0), ("you", 1)):
        write(tmp_path / "hub" / owner / "net" / "model.safetensors", seed, stem=9999)
    with HubServer(tmp_path / "hub") as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server
    close_session()


def test_repositories_of_two_owners_are_two_networks(hub):
    (done,) = run("hf-hub:me/net")
    assert done.state == "harvested", done.error
    (done,) = run("hf-hub:you/net")
    assert done.state == "failed" and "harvested from another network (hf-hub:me/net)" in str(done.error)
    both = run("hf-hub:me/net", "hf-hub:you/net")
    assert [(d.name, d.state) for d in both] == [("net", "skipped"), ("you-net", "harvested")]


def test_revisions_of_a_repository_are_networks_of_their_own(hub):
    commit = hub.commit("me/net")
    done = run("hf-hub:me/net", f"hf-hub:me/net@{commit}")
    assert [(d.name, d.state) for d in done] == [("net", "harvested"), (f"net@{commit}", "harvested")]
    assert network_name("hf-hub:me/net@refs/pr/1") == "net@refs-pr-1"
    assert network_name("hf-hub:you/other@refs/pr/1") == "other@refs-pr-1"


def test_a_checkpoint_that_timm_calls_tar_is_named_without_both_endings():
    assert network_name("/runs/model_best.pth.tar") == "model_best"
    assert network_name("net.v2.safetensors") == "net.v2" and network_name("/runs/.tar") == ".tar"
    assert network_name("/runs/net.weights.h5") == "net.weights"  # as ever; in a folder it is "net"


def test_a_repository_that_moved_is_said_and_replaced_only_by_force(hub, tmp_path):
    run("hf-hub:me/net")
    commit = load_bank("net").provenance.hub_commit
    assert len(commit) == 40
    hub.log.clear()
    assert run("hf-hub:me/net")[0].state == "skipped"
    assert [r.method for r in hub.log] == ["HEAD"]
    write(tmp_path / "hub" / "me" / "net" / "model.safetensors", 2, stem=9999)
    (done,) = run("hf-hub:me/net")
    assert done.state == "failed" and "when it had other weights" in str(done.error)
    assert run("hf-hub:me/net", force=True)[0].state == "harvested"


def test_a_hub_that_does_not_answer_is_asked_once_and_the_banks_are_kept(hub, monkeypatch):
    names = ["hf-hub:me/net", "hf-hub:you/net"]
    run(*names)
    import mkfa.readers.hub.read_hub as read_hub

    asked = []
    hub.__exit__()
    monkeypatch.setattr(read_hub, "pin", lambda *a, pin=read_hub.pin, **k: asked.append(a) or pin(*a, **k))
    assert [d.state for d in run(*names)] == ["skipped", "skipped"]
    assert len(asked) == 1


def test_json_of_a_harvest_has_the_changes(first):
    (done,) = run(first, licence="MIT")
    facts = json.loads(json.dumps(harvest_all([str(first)]).to_dict(), default=str))
    assert done.notes == done.changes and "changes" in facts["banks"][0]
