"""A classifier comes back from its file as it was, and nothing else comes in."""

import io
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from router.core.artefact import Artefact, ArtefactError
from router.core.classify import Classifier, Rule, Seen
from router.core.features import BITS, SURFACE, features_of
from router.core.learned import Heads
from router.core.tokens import read


@pytest.fixture(scope="module")
def artefact():
    draw = np.random.default_rng(1)
    heads = Heads.of(
        ["large", "small"],
        ["code", "maths"],
        weights=draw.normal(size=(4, 2**BITS)) * (draw.random((4, 2**BITS)) < 0.02),
        surface=draw.normal(size=(4, len(SURFACE))),
        bias=draw.normal(size=4),
        mean=draw.random(len(SURFACE)),
        deviation=draw.random(len(SURFACE)) + 0.1,
    )
    return Artefact(heads, {("large", "small"): (0.1, 0.3)}, {"rows": 7})


def repacked(file, **changes):
    """The same file with some of its entries changed; ``None`` leaves one out."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            entry = changes.get(name.removesuffix(".npy"), old.read(name))
            if entry is not None:
                new.writestr(name, entry)
    return packed.getvalue()


def npy(array, **how):
    packed = io.BytesIO()
    np.save(packed, array, **how)
    return packed.getvalue()


def test_it_comes_back_and_has_the_same_version(artefact):
    found = Artefact.from_bytes(artefact.to_bytes())
    assert (found.version, found.gain_edges, found.card) == (artefact.version, artefact.gain_edges, artefact.card)
    asked = features_of([read("Write a function that adds two numbers")[1]])
    assert np.array_equal(found.heads.logits(asked), artefact.heads.logits(asked))


def test_the_version_is_that_of_the_content_however_it_is_packed(artefact):
    assert Artefact.from_bytes(repacked(artefact.to_bytes())).version == artefact.version


def test_another_weight_is_another_version(artefact):
    changed = artefact.heads.weights.copy()
    changed[5, 0] += 1
    found = Artefact.from_bytes(repacked(artefact.to_bytes(), weights=npy(changed)))
    assert found.version != artefact.version


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"", "no classifier"),
        (b"PK nonsense", "no classifier"),
        (bytes(6 * 1024 * 1024), "at most"),
    ],
)
def test_what_is_no_classifier_is_refused(file, says):
    with pytest.raises(ArtefactError, match=says):
        Artefact.from_bytes(file)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bias": None}, "holds"),
        ({"bias": npy(np.zeros(3, np.float32))}, r"bias: float32 \(3,\), not float32 \(4,\)"),
        ({"bias": npy(np.full(4, np.nan, np.float32))}, "no number"),
        ({"deviation": npy(np.zeros(len(SURFACE), np.float32))}, "not above 0"),
        ({"weights": npy(np.zeros((9, 4), np.int8))}, "weights"),
        ({"meta": npy(np.frombuffer(b"{", np.uint8))}, "description"),
        ({"meta": npy(np.frombuffer(b'{"format": 99}', np.uint8))}, "format 99"),
        ({"bias": npy(np.array([pickle.loads], object), allow_pickle=True)}, "no classifier"),
        ({"bias": b"x" * 70_000_000}, "unpacks to more"),
    ],
)
def test_what_does_not_fit_is_named(artefact, changes, says):
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as smaller,
        zipfile.ZipFile(io.BytesIO(repacked(artefact.to_bytes(), **changes))) as found,
    ):
        for name in found.namelist():
            smaller.writestr(name, found.read(name))
    with pytest.raises(ArtefactError, match=says):
        Artefact.from_bytes(packed.getvalue())


def test_no_class_is_called_as_slices_are(artefact):
    heads = replace(artefact.heads, classes=("code", "slice"))
    with pytest.raises(ArtefactError, match="none may be called 'slice'"):
        Artefact.from_bytes(replace(artefact, heads=heads).to_bytes())


def test_a_prompt_has_the_class_of_the_largest_head_and_a_probability_a_model(artefact):
    classifier = Classifier([], artefact.heads)
    asked = [Seen(text, read(text)[1]) for text in ("Write a function", "", "What is 7 times 8?")]
    found = classifier.classify(asked)
    assert [each.task_class for each in found] == [classifier.classify([one])[0].task_class for one in asked]
    assert all(set(each.p_ok) == {"large", "small"} and min(each.p_ok.values()) >= 0 for each in found)
    assert {each.task_class for each in found} <= {"code", "maths"}


def test_a_rule_that_fits_says_the_class_and_what_was_learned_the_rest(artefact):
    asked = [Seen(text, read(text)[1]) for text in ("Write a limerick", "Write a function")]
    ruled = Classifier([Rule("verse", ("limerick",))], artefact.heads)
    learned = Classifier([], artefact.heads).classify(asked)
    found = ruled.classify(asked)
    assert ruled.classes == ("verse", "code", "maths")
    assert [one.task_class for one in found] == ["verse", learned[1].task_class]
    assert [one.p_ok for one in found] == [one.p_ok for one in learned]


def test_a_prompt_unlike_all_is_no_more_than_the_most_unlike(artefact):
    wild = features_of([read("\n" * 3000)[1], read("$" * 3000)[1]])
    reach = np.abs(artefact.heads.surface).sum(axis=1) * 3 + np.abs(artefact.heads.bias)
    assert (np.abs(artefact.heads.logits(wild)) <= reach + 30).all()


def header(text):
    """An array of eight bytes under a header of any text."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(8)


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }\n" % 10**15,
        "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }\n" % 10**30,
        "{'descr': '<f8', (((\n",
        "{'''\n",
        "  x\n y\n",
        "(" * 5000 + "\n",
    ],
    ids=["petabytes", "no size at all", "open brackets", "open text", "indented", "deep"],
)
def test_a_header_that_numpy_stumbles_over_is_no_classifier(artefact, text):
    """A router reads whatever lies in the topic of classifiers, and goes on."""
    with pytest.raises(ArtefactError, match="no classifier"):
        Artefact.from_bytes(repacked(artefact.to_bytes(), bias=header(text)))


def test_damaged_encrypted_and_unusually_packed_entries_are_no_classifier(artefact):
    whole = artefact.to_bytes()
    damaged = bytearray(whole)
    damaged[45:60] = b"\xff" * 15
    encrypted = bytearray(whole)
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = encrypted.find(mark)
        while place >= 0:
            encrypted[place + flags] |= 1
            place = encrypted.find(mark, place + 4)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    for file in (bytes(damaged), bytes(encrypted), packed.getvalue()):
        with pytest.raises(ArtefactError, match="no classifier"):
            Artefact.from_bytes(file)
