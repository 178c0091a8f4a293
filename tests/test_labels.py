"""Labelled words as people have them: columns of files, tagging schemes, and spans counted as others count them."""

import pytest
from helpers.samples import columns, sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.tagging.columns import CONLLU, read_columns
from lm.tagging.command import redacted
from lm.tagging.data import TaggedFiles
from lm.tagging.schemes import Scheme, recognised
from lm.tagging.spans import Span, count, spans, spelling
from lm.tagging.words import Place, places
from unroll.errors import UserError

WORD_TAG = ["word", "tag"]
NP = [["the", "B-NP"], ["car", "I-NP"]]
ROW = "_\tNOUN\tNN\t_\t0\troot\t_\t_"

# a text, the names of its columns as they are typed, and the sentences in it (behind the names that it has itself)
FILES = {
    "empty lines": ("\n\nthe B-NP\ncar I-NP\n\n\n \t\nruns B-VP", None, [NP, [["runs", "B-VP"]]]),
    "tabs, blanks or several in turn": ("the\tB-NP\ncar  I-NP\n", None, [NP]),
    "tabs that align": ("the\t\tB-NP\ncar\tI-NP\n", None, [NP]),
    "tabs and blanks": ("the \t B-NP \ncar\tI-NP\t\n", None, [NP]),
    "blanks in words": ("New York\tB-LOC\nis\tO\n", None, [[["New York", "B-LOC"], ["is", "O"]]]),
    "no-break spaces": ("1\u00a0000 B-X\nd\u00a0t O\n", None, [[["1\u00a0000", "B-X"], ["d\u00a0t", "O"]]]),
    "line separators": ("a\u0085 O\n\u2028\tO\n\u0085\tO\n", None, [[[w, "O"] for w in ("a\x85", "\u2028", "\x85")]]),
    "line ends of others": ("the B-NP\r\ncar I-NP\r\n\r\nthe B-NP\rcar I-NP\r", None, [NP, NP]),
    "a byte order mark": ("\ufeffthe B-NP\ncar I-NP\n", None, [NP]),
    "one in front of what is no word": ("\ufeff-DOCSTART- -X- O\n\nthe B-NP\ncar I-NP\n", None, [NP]),
    "files joined": ("the B-NP\ncar I-NP\n\ufeffthe B-NP\n", None, [[*NP, ["the", "B-NP"]]]),
    "documents": ("-DOCSTART- O\nthe B-NP\n-DOCSTART- -X- -X- O\ncar I-NP\n", None, [[NP[0]], [NP[1]]]),
    "comments": ("# sent_id = 1\n# text = the car\n#\nthe B-NP\ncar I-NP\n\n# newpar\nthe B-NP\n", None, [NP, [NP[0]]]),
    "comments with as many columns": ("# id = 7\nthe a b c\n", ["word", "x", "y", "tag"], [[["the", "a", "b", "c"]]]),
    "documents of OntoNotes": ("#begin document (a); part 0\nthe B-NP\n\n#end document\n", None, [[NP[0]]]),
    "addresses of GermEval": (
        "#\thttp://a.org\t[2009]\n1\tthe\tB-NP\tO\n",
        ["n", "word", "tag", "inner"],
        [[["1", "the", "B-NP", "O"]]],
    ),
    "words that begin with #": ("# O\n#tag O\nthe B-NP\n# O\n", None, [[["#", "O"], ["#tag", "O"], NP[0], ["#", "O"]]]),
    "CoNLL-U": (
        f"# text = du car\n1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\t{ROW}\n2\tthe car\t{ROW}\n2.1\tx\t{ROW}\n",
        None,
        (CONLLU, [[["1", "de", *ROW.split("\t")], ["2", "the car", *ROW.split("\t")]]]),
    ),
    "CoNLL-U by name": ("1-2\tdu\t_\n1\tde\tADP\n", ["ID", "FORM", "UPOS"], [[["1", "de", "ADP"]]]),
    "CoNLL-U Plus": (
        "# global.columns = ID FORM NER\n1\tAcme\tB-ORG\n1.1\tx\tO\n",
        None,
        (["id", "form", "ner"], [[["1", "Acme", "B-ORG"]]]),
    ),
    "a line of names": ("token tag\nthe B-NP\ncar I-NP\n", None, [NP]),
    "a line of names by itself": ("Word\tNER\n\nthe\tB-NP\ncar\tI-NP\n", None, [NP]),
    "a line of three names": ("word pos tag\nthe DT B-NP\n", None, (["word", "pos", "tag"], [[["the", "DT", "B-NP"]]])),
    "a line of the names that are typed": ("mot classe\nthe B-NP\ncar I-NP\n", ["mot", "classe"], [NP]),
    "names of columns that are words": ("word text\ntag text\n", None, [[["word", "text"], ["tag", "text"]]]),
    "names of columns, of which one is a word": ("text O\nthe B-NP\ncar I-NP\n", None, [[["text", "O"], *NP]]),
    "a word by itself": ("text\ncar\n", ["word"], [[["text"], ["car"]]]),
    "a range that is a word": ("1-2 B-NUM\n", None, [[["1-2", "B-NUM"]]]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "names", "expected"), FILES.values(), ids=FILES)
def test_what_is_read(text, names, expected):
    if not isinstance(expected, tuple):
        expected = names or WORD_TAG, expected
    assert read_columns(text, names, "a.txt")[:2] == expected


@pytest.mark.parametrize(
    ("text", "names", "words"),
    [
        ("the DT B-NP\ncar NN\n", ["word", "pos", "tag"],
         "a.txt, line 2: has 2 columns; data.columns names 3: word, pos, tag"),
        ("the DT B-NP\n", None, "a.txt, line 1: has 3 columns; name them: data.columns="),
        ("New York\tB-LOC\nthe car\n", None, "a.txt, line 2: has 1 columns"),
        ("the,B-NP\n", None, r"a.txt, line 1: has 1 columns \(tabs or blanks separate them\); name them"),
        ("the B-NP\n# a late remark\n", None, "a.txt, line 2: has 4 columns"),
        ("the\t\tO\n", ["word", "pos", "tag"], "a.txt, line 1: has nothing in the column pos"),
        ("\n# text = x\n-DOCSTART- O\n", None, "a.txt: has no sentences"),
    ],
)  # fmt: skip
def test_what_is_refused(text, names, words):
    with pytest.raises(UserError, match=words):
        read_columns(text, names, "a.txt")


class TestData:
    @pytest.fixture
    def read(self, tmp_path):
        def read(text, **settings):
            (tmp_path / "train.txt").write_text(text, encoding="utf-8")
            return TaggedFiles(train=str(tmp_path / "train.txt"), **{"columns": None, **settings})

        return read

    def test_the_columns_of_conllu_are_chosen_by_their_names(self, read):
        data = read(f"1\tcar\t{ROW}\n\n" * 10, label="upos")
        assert len(data.splits.train) == 9
        assert data.encoder.labels == ["NOUN"]
        assert data.encoder.words["car"] > 1
        with pytest.raises(UserError, match=r"there is no column tag; data.columns names id, form, lemma"):
            read(f"1\tcar\t{ROW}\n\n" * 10).train  # noqa: B018

    def test_a_label_that_only_the_held_out_end_has_is_known_and_one_of_another_file_refused(self, read, tmp_path):
        text = columns(sentences(20, seed=1)) + "\ncar NN B-XX\n"
        names = ["word", "pos", "tag"]
        assert "B-XX" in read(text, columns=names).encoder.labels
        (tmp_path / "test.txt").write_text("car NN B-YY\n")
        data = read(text, columns=names, test=str(tmp_path / "test.txt"), split="test")
        with pytest.raises(UserError, match="test split: the label B-YY does not occur in the training split"):
            data.valid  # noqa: B018

    def test_labels_where_words_should_be_are_refused(self, read):
        text = "B-PER Ann\nI-PER Lee\nO ran\n\n" * 10
        with pytest.raises(UserError, match=r"the words are labels, such as B-PER; data.columns=\[…\] names the"):
            read(text).scheme()
        assert read(text, columns=["tag", "word"]).scheme() == Scheme("iob2")
        assert read(text, scheme="none").scheme() == Scheme("none")

    def test_a_line_of_names_is_said_and_what_may_be_one_too(self, read):
        said = "the first line left out, as it has the names of columns (token tag)"
        assert said in read("token tag\n" + "a NN\nb VB\n\n" * 9).summary()
        assert "the label of its first word, etiqueta, is that of no other word" in (
            read("palabra etiqueta\n" + "a NN\nb VB\n\n" * 9).summary()
        )
        assert "first" not in read("a NN\nb VB\n\n" * 9).summary()

    def test_labels_of_a_split_in_another_scheme_are_named_so(self, read, tmp_path):
        valid = tmp_path / "valid.txt"
        valid.write_text("a U-X\nb B-X\nc L-X\n")
        data = read("a B-X\nb I-X\nc O\n\n" * 10, valid=str(valid))
        with pytest.raises(
            UserError, match="U-X does not occur in the training split, whose scheme is IOB2; here it is B"
        ):
            data.valid  # noqa: B018
        valid.write_text("a B-X\nb I-X\n")
        data = read("a U-X\nb B-X\nc I-X\nd L-X\n\n" * 10, valid=str(valid))
        assert "(BILOU, but for 1 of 1 spans of validation)" in data.summary()

    def test_the_run_says_which_scheme_it_reads_and_how_much_is_spelt_otherwise(self, read):
        assert "(BILOU)" in read("a U-X\nb B-X\nc L-X\n\n" * 10).summary()
        assert "(IOB2, but for 1 of 19 spans)" in read("a B-X\nb B-X\n\n" * 9 + "b I-X\n\nc O\n").summary()
        assert "(each a type of its own)" in read("a NN\nb VB\n\n" * 10).summary()


PER = Span("PER", 0, 3), Span("PER", 3, 4), Span("LOC", 5, 6)
PERSON = [Span("PER", 0, 2)]
# labels, the scheme they are in, and the spans they spell
SCHEMES = {
    "IOB2": ("B-PER I-PER I-PER B-PER O B-LOC", Scheme("iob2"), PER),
    "IOB1": ("I-PER I-PER I-PER B-PER O I-LOC", Scheme("iob1"), PER),
    "IOE2": ("I-PER I-PER E-PER E-PER O E-LOC", Scheme("ioe2"), PER),
    "IOE1": ("I-PER I-PER E-PER I-PER O I-LOC", Scheme("ioe1"), PER),
    "IOBES": ("B-PER I-PER E-PER S-PER O S-LOC", Scheme("iobes"), PER),
    "BMES": ("B-PER M-PER E-PER S-PER O S-LOC", Scheme("iobes"), PER),
    "BMEWO": ("B-PER M-PER E-PER W-PER O W-LOC", Scheme("iobes"), PER),
    "BILOU": ("B-PER I-PER L-PER U-PER O U-LOC", Scheme("bilou"), PER),
    "suffixes": ("PER-B PER-I PER-I PER-B O LOC-B", Scheme("iob2", suffix=True), PER),
    "suffixes of BILOU": ("PER-B PER-I PER-L PER-U O LOC-U", Scheme("bilou", suffix=True), PER),
    "underscores": ("B_PER I_PER I_PER B_PER O B_LOC", Scheme("iob2", "_"), PER),
    "slashes behind": ("PER/B PER/I PER/I PER/B O LOC/B", Scheme("iob2", "/", True), PER),
    "separators in types": ("B-a-b I-a-b O", Scheme("iob2"), [Span("a-b", 0, 2)]),
    "underscores in types": ("B-a_b I-a_b O", Scheme("iob2"), [Span("a_b", 0, 2)]),
    "letters alone": ("B M E S O", Scheme("iobes", ""), [Span("_", 0, 3), Span("_", 3, 4)]),
    "types alone": ("PER PER O LOC", Scheme("none"), [*PERSON, Span("LOC", 3, 4)]),
    "parts of speech": ("NN -LRB- WP$ NN-TL", Scheme("none"),
                        [Span(name, at, at + 1) for at, name in enumerate(("NN", "-LRB-", "WP$", "NN-TL"))]),
    "sizes": ("S M L", Scheme("none"), [Span(name, at, at + 1) for at, name in enumerate("SML")]),
    "nothing": ("O O", Scheme("none"), []),
}  # fmt: skip


@pytest.mark.parametrize(("labels", "scheme", "expected"), SCHEMES.values(), ids=SCHEMES)
def test_the_scheme_of_labels_and_the_spans_they_spell(labels, scheme, expected):
    labels = labels.split()
    assert recognised([labels]) == scheme
    assert spans(labels, scheme) == spans(labels, scheme, strict=True) == list(expected)
    if expected:
        text = " ".join("word" for _ in labels)
        words = [Place(5 * at, 5 * at + 4) for at in range(len(labels))]
        start, stop = expected[0].start * 5, expected[0].stop * 5 - 1
        assert redacted(text, words, labels, expected[0].kind, scheme)[start:stop] == "█" * (stop - start)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("B-PER I-PER O LOC", "the label LOC is neither O nor of a scheme, as B-PER is; data.scheme=none"),
        ("B-PER M-PER I-PER O", "the labels mix the letters I and M, of different schemes"),
        ("B-PER E-PER L-LOC O", "the labels mix the letters E and L"),
        ("BEGIN-PER INSIDE-PER O", "the label BEGIN-PER is of no scheme that is known here"),
        ("PER-1 PER-2 O", "the label PER-1 is of no scheme"),
        ("B-PER I-PER _", "the label _"),
        ("Tag=O Tag=B-PER", "the labels are attributes, such as Tag=O"),
        ("B-PER I-PER 0 B-LOC", r"the label 0 must be O \(the capital letter\) to be of a scheme; data.scheme=none"),
        ("PER PER 0 LOC", "the label 0 must be O"),
        ("B-PER I-PER o B-LOC", "the label o must be O"),
        ("b-per i-per O b-loc", "the label b-loc must be B-loc to be of a scheme; data.scheme=none"),
        ("b-per i-per b-loc", "the label b-loc must be B-loc"),
        ("PER-b PER-i O", "the label PER-b must be PER-B"),
        ("B-PER b-PER O", "the label b-PER must be B-PER"),
        ("b i b i", "the label b must be B"),
        ("BPER IPER O BLOC", "the label BLOC must be B-LOC to be of a scheme; data.scheme=none"),
        ("SPER EPER BPER", "the label BPER must be B-PER"),
        ("B-PER I-PER OUT", "the label OUT is neither O nor of a scheme, as B-PER is; data.scheme=none"),
        ("B-PER I-PER B_PER", "the label B_PER is neither O nor of a scheme, as B-PER is"),
        ("B-PER B-LOC -", "the label - is neither O nor of a scheme"),
        ("- - B-PER", "the label - is neither O nor of a scheme"),
        ("B-PER|B-NP I-PER|I-NP O", r"the label B-PER\|B-NP is several; give a column that has one of them"),
        ("PER-B,NP-B PER-I,NP-I O", "the label PER-B,NP-B is several"),
        ('"B-PER" "I-PER" "O"', 'the labels are in quotes, such as "B-PER"; write them without'),
        ("B-PER I-PER\u200b O", r"the label 'I-PER\\u200b' has a character in it that is not seen"),
    ],
)
def test_labels_of_no_scheme_are_refused_by_name_unless_they_are_said_to_be_types(labels, words):
    name = "iob2" if "_" in labels.split() else None
    with pytest.raises(UserError, match=words):
        recognised([labels.split()], name)
    assert recognised([labels.split()], "none") == Scheme("none")


@pytest.mark.parametrize(
    "labels",
    [
        "NN NN-TL FW-NN -LRB-",
        "S-x ADJ",
        "IN CD B",
        "0 1 2",
        "bass low mid",
        "ISSUE LOC MISC",
        "nn np-tl b-x",
        "I O-O U",
    ],
)
def test_labels_that_look_a_little_like_a_scheme_are_types(labels):
    assert recognised([labels.split()]) == Scheme("none")


@pytest.mark.parametrize(
    ("labels", "name", "words"),
    [
        ("B-PER E-PER S-PER O", "iob2", r"data.scheme=iob2: the label E-PER is of another \(its letters are B, I\)"),
        ("B-PER I-PER S-PER O", "bilou", "the label S-PER is of another"),
        ("B-PER M-PER O", "bilou", "the label M-PER is of another"),
        ("U-PER B-PER L-PER", "iobes", "the label L-PER is of another"),
        ("B-PER I-PER O", "ioe2", "the label B-PER is of another"),
        ("E-PER I-PER O", "iob1", "the label E-PER is of another"),
        ("NN VB", "iob2", "data.scheme=iob2: the label NN has no letter of it; data.scheme=none"),
    ],
)
def test_a_scheme_that_the_labels_are_not_of_is_refused(labels, name, words):
    with pytest.raises(UserError, match=words):
        recognised([labels.split()], name)


def test_a_scheme_can_be_said_where_the_labels_leave_it_open():
    assert recognised([["B-X", "I-X", "O"]], "iobes") == Scheme("iobes")
    assert recognised([["X_B", "O"]], "bilou") == Scheme("bilou", "_", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Mr. Lee isn't in the U.S., no.", "Mr. Lee is n't in the U.S. , no ."),
        ("MR. O'Hara's well-known 3.14 % of l'été", "MR. O'Hara 's well-known 3.14 % of l' été"),
        ("a-b  c/d", "a - b c / d"),
        ("", ""),
    ],
)
def test_running_text_is_split_as_the_training_file_was(tmp_path, text, words):
    known = ["Mr.", "U.S.", "no.", "well-known", "2.71", "is", "n't", "'s", "l'", "été", "Lee", "in", "the"]
    (tmp_path / "train.txt").write_text("".join(f"{word} O\n\n" for word in known) * 2, encoding="utf-8")
    encoder = TaggedFiles(train=str(tmp_path / "train.txt"), columns=None).encoder
    assert " ".join(text[start:stop] for start, stop in places(text, encoder)) == words


LETTERS = {"iob1": "IOB", "iob2": "IOB", "ioe1": "IOE", "ioe2": "IOE", "iobes": "IOBES", "bilou": "ILOUB"}


def labelled(letter, kind, suffix):
    return "O" if letter == "O" else f"{kind}-{letter}" if suffix else f"{letter}-{kind}"


@st.composite
def some_spans(draw):
    found, at = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3)), max_size=5)):
        found.append(Span(draw(st.sampled_from("XY")), at + gap, at + gap + length))
        at += gap + length
    return found


def spelt(found, name, suffix=False):
    """Labels as a scheme spells some spans."""
    letters = spelling(found, Scheme(name))
    kinds = {at: span.kind for span in found for at in range(span.start, span.stop)}
    renamed = {"E": "L", "S": "U"} if name == "bilou" else {}
    every = (letters.get(at, "O") for at in range(max(kinds, default=0) + 2))
    return [labelled(renamed.get(letter, letter), kinds.get(at), suffix) for at, letter in enumerate(every)]


@pytest.mark.parametrize("name", LETTERS)
@settings(deadline=None, max_examples=60)
@given(found=some_spans())
def test_what_a_scheme_spells_is_read_as_it_was_meant(name, found):
    labels = spelt(found, name)
    assert spans(labels, Scheme(name)) == spans(labels, Scheme(name), strict=True) == found


@pytest.mark.parametrize("suffix", [False, True])
@pytest.mark.parametrize("name", ["iob1", "iob2", "ioe2", "iobes", "bilou"])
@pytest.mark.few(4)
def test_strict_spans_are_those_of_seqeval(name, suffix):
    """Of any labels; in IOB1 of well-formed ones (of B-X I-X alone seqeval makes a span of the second word). In IOE1 it
    loses a word that touches the next span."""
    known = pytest.importorskip("seqeval.scheme")
    metrics = pytest.importorskip("seqeval.metrics.v1")
    scheme, theirs = Scheme(name, "-", suffix), getattr(known, name.upper())
    label = st.builds(labelled, st.sampled_from(LETTERS[name]), st.sampled_from("XY"), st.just(suffix))
    sentence = st.lists(label, min_size=1, max_size=8)
    if name == "iob1":
        sentence = some_spans().map(lambda found: spelt(found, name, suffix))

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.tuples(sentence, sentence), min_size=1, max_size=3))
    def check(pairs):
        pairs = [tuple((one + ["O"] * 20)[:20] for one in pair) for pair in pairs]
        true, predicted = map(list, zip(*pairs, strict=True))
        for one, entities in zip(true, known.Entities(true, theirs, suffix=suffix).entities, strict=True):
            assert spans(one, scheme, strict=True) == [Span(*entity.to_tuple()[1:]) for entity in entities]
        counts = count(true, predicted, scheme, strict=True)
        if counts.true and counts.predicted:
            *_, f1, _ = metrics.precision_recall_fscore_support(
                true, predicted, average="micro", scheme=theirs, suffix=suffix
            )
            assert counts.f1 == pytest.approx(f1)

    check()


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("OBIES"), min_size=1, max_size=9), min_size=1, max_size=4), st.randoms())
def test_spans_are_counted_as_seqeval_and_conlleval_count_them(prefixes, draw):
    metrics = pytest.importorskip("seqeval.metrics.sequence_labeling")
    true, predicted = (
        [[labelled(prefix, draw.choice("XY"), False) for prefix in sentence] for sentence in prefixes] for _ in range(2)
    )
    scheme = Scheme("iobes")
    for sentence in true:
        assert spans(sentence, scheme) == [Span(kind, a, b + 1) for kind, a, b in metrics.get_entities(sentence)]
    counts = count(true, predicted, scheme)
    if counts.true and counts.predicted:
        ours = (counts.correct / counts.predicted, counts.correct / counts.true, counts.f1)
        theirs = metrics.precision_recall_fscore_support(true, predicted, average="micro")
        assert ours == pytest.approx(theirs[:3])
