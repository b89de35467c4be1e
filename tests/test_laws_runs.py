import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from isoflop.laws import read_runs

pytestmark = pytest.mark.filterwarnings("error")

HEADER = ["N", "D", "loss"]
POSITIVE = st.floats(1e-3, 1e15)
ROWS = st.lists(st.tuples(POSITIVE, POSITIVE, POSITIVE), min_size=1, max_size=8, unique=True)
NO_NUMBER = ("", " ", "nan", "inf", "-inf", "-3.5", "0", "1,000", "3.1 nats", "1e400", "None", "−2", "x" * 200)


@pytest.fixture
def write(tmp_path):
    """Write text or bytes to a CSV file and give its path."""

    def written(content, name="runs.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def text_of(rows, header=HEADER, **options):
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n", **options)
    writer.writerow(header)
    writer.writerows(rows)
    return page.getvalue()


def attempt(source, **options):
    """The runs, or the sentence with which they are refused: a plain ValueError, short enough to read."""
    try:
        return read_runs(source, **options)
    except ValueError as error:
        sentence = str(error) if type(error) is ValueError else ""
        return sentence if len(sentence) < 600 else sentence[:600]


def refused(source, **options):
    sentence = attempt(source, **options)
    assert isinstance(sentence, str)
    assert 0 < len(sentence) < 600
    return sentence


def assert_sound(runs):
    assert len(runs) == len(runs.labels) > 0
    for column in (runs.N, runs.D, runs.loss, runs.C):
        assert np.all(np.isfinite(column) & (column > 0))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=ROWS,
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    bom=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    blanks=st.lists(st.sampled_from(["", ",,", " , ,"]), max_size=3),
    last=st.booleans(),
)
def test_a_table_says_the_same_however_it_was_exported(write, rows, quoting, bom, end, blanks, last):
    lines = text_of(rows, quoting=quoting).splitlines()
    whole = end.join([*lines[:2], *blanks, *lines[2:]]) + end * last
    runs = read_runs(write(("\ufeff" if bom else "") + whole))
    assert runs.N.tolist() == [row[0] for row in rows]
    assert runs.D.tolist() == [row[1] for row in rows]
    assert runs.loss.tolist() == [row[2] for row in rows]
    assert pytest.approx(6 * runs.N * runs.D, rel=1e-15) == runs.C


def test_rows_are_named_by_the_lines_of_the_file(write):
    sentence = refused(write("N,D,loss\n\n1e6,1e9,3\n,,\n2e6,1e9,oops\n"))
    assert "line 5 has 'oops'" in sentence
    assert "runs.csv" in sentence


def test_leading_blank_lines_are_not_the_header(write):
    assert read_runs(write("\n\nN,D,loss\n1e6,1e9,3\n")).labels == ("line 4",)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS, cell=st.sampled_from(NO_NUMBER), place=st.integers(0, 100))
def test_a_cell_that_is_no_positive_number_is_named_with_its_line_and_column(write, rows, cell, place):
    line, column = place // 3 % len(rows), place % 3
    table = [[repr(value) for value in row] for row in rows]
    table[line][column] = cell
    sentence = refused(write(text_of(table)))
    assert f"{HEADER[column]} must be positive and finite, but line {line + 2} has " in sentence
    assert "runs.csv" in sentence


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(str.encode),
        st.text(alphabet='N,D;loss"\n\r 123.e-∞', max_size=80).map(lambda text: b"N,D,loss\n" + text.encode()),
    )
)
def test_no_file_does_worse_than_a_sentence_that_names_it(write, content):
    path = write(content, "some runs.csv")
    found = attempt(path)
    if isinstance(found, str):
        assert "some runs.csv" in found
    else:
        assert_sound(found)


def test_a_row_with_too_few_cells_lacks_a_number_and_one_with_too_many_is_refused(write):
    assert "line 3 has nothing" in refused(write("N,D,loss\n1e6,1e9,3\n2e6,1e9\n"))
    assert "line 3 has 4 cells" in refused(write("N,D,loss\n1e6,1e9,3\n2,000,1e9,3\n"))
    assert len(read_runs(write("N,D,loss\n1e6,1e9,3,\n2e6,1e9,3,,\n"))) == 2


def test_broken_quotes_and_other_encodings_are_said(write):
    assert "not CSV" in refused(write('N,D,loss\n1e6,1e9,"3\n2e6,1e9,3\n'))
    assert "UTF-8" in refused(write("N,D,loss,größe\n1e6,1e9,3,1\n".encode("latin-1")))
    assert "UTF-8" in refused(write("N,D,loss\n1e6,1e9,3\n".encode("utf-16")))


def test_nothing_to_read_is_said(write):
    assert "empty" in refused(write(""))
    assert "empty" in refused(write("\n\n  \n"))
    assert "there are no runs" in refused(write("N,D,loss\n"))
    assert "there are no runs" in refused([])
    assert "no column for loss and two of N, D and C" in refused({})
    with pytest.raises(FileNotFoundError):
        read_runs("no such file.csv")


def test_a_column_that_is_there_twice_is_refused(write):
    assert "the first line has loss more than once" in refused(write("N,D,loss,loss\n1e6,1e9,3,2\n"))
    ambiguous = {"Model size": [1e6], "model_size": [2e6], "D": [1e9], "loss": [3.0]}
    assert "'Model size' and 'model_size' may both be N" in refused(ambiguous)
    assert read_runs(ambiguous, columns={"N": "model_size"}).N == [2e6]


@pytest.mark.parametrize(
    "names", [("Params", "Training Tokens", "Val-Loss"), ("model_size", "tokens", "loss"), (" n ", "num tokens", "L")]
)
def test_usual_names_are_known(names, write):
    runs = read_runs(write(text_of([(1e6, 1e9, 3.0)], names)))
    assert (runs.N[0], runs.D[0], runs.loss[0]) == (1e6, 1e9, 3.0)


def test_names_are_told_in_any_script(write):
    path = write(text_of([(1e6, 1e9, 3.0)], ["größe", "токены", "損失"]))
    runs = read_runs(path, columns={"N": "größe", "D": "токены", "loss": "損失"})
    assert (runs.N[0], runs.D[0], runs.loss[0]) == (1e6, 1e9, 3.0)


def test_wrong_columns_are_answered_with_what_there_is(write):
    path = write(text_of([(1e6, 1e9, 3.0)], ["size", "D", "c4"]))
    assert "no column 'sizes' for N; there are: size, D, c4" in refused(path, columns={"N": "sizes", "loss": "c4"})
    assert "columns names params; the symbols are N, D, C, U, loss" in refused(path, columns={"params": "size"})
    assert "no column for loss and two of N, D and C; there are: size, D, c4" in refused(path)
    assert "no column for loss;" in refused(path, columns={"N": "size"})


def test_what_is_missing_follows_from_six_flops_per_parameter_and_token():
    N, D, loss = np.array([1e6, 3e6]), np.array([2e9, 1e9]), [3.0, 2.9]
    for missing in "NDC":
        table = {"N": N, "D": D, "C": 6 * N * D, "loss": loss}
        del table[missing]
        runs = read_runs(table)
        for symbol, column in (("N", N), ("D", D), ("C", 6 * N * D)):
            assert runs.column(symbol) == pytest.approx(column, rel=1e-14)
    assert "no column for two of N, D and C" in refused({"N": N, "loss": loss})
    with pytest.raises(ValueError, match="no column U; this form needs it"):
        read_runs({"N": N, "D": D, "loss": loss}).column("U")


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_numbers_whose_product_is_none_are_refused(scale):
    assert "beyond all numbers for row 0" in refused({"N": [scale, 1e6], "D": [scale, 1e9], "loss": [3.0, 2.0]})
    assert "beyond all numbers for row 1" in refused(
        {"N": [1e6, scale], "C": [1e16, 1 / scale**1.2], "loss": [3.0, 2.0]}
    )


@pytest.mark.parametrize(
    "column",
    [3.0, "1e6", None, {"a": 1}, {1e6, 2e6}, np.float64(1.0), np.ones((2, 2)), iter([1.0, 2.0])],
    ids=["a number", "text", "nothing", "a mapping", "a set", "a scalar", "a matrix", "an iterator"],
)
def test_what_is_not_a_column_is_refused(column):
    assert "N is not one column but a" in refused({"N": column, "D": [1e9, 2e9], "loss": [3.0, 2.0]})


@pytest.mark.parametrize("value", [None, [1, 2], 1j, 10**400, float("nan"), -0.0, object(), "", True - 1])
def test_values_that_are_no_number_are_named_by_row(value):
    sentence = refused({"N": [1e6, 2e6, value], "D": [1e9] * 3, "loss": [3.0, 2.9, 2.8]})
    assert "N must be positive and finite, but row 2 has " in sentence


def test_only_a_few_of_many_faulty_rows_are_named():
    sentence = refused({"N": [-1.0] * 100, "D": [1e9] * 100, "loss": [3.0] * 100})
    assert "row 4 has" in sentence
    assert "row 5 has" not in sentence


@pytest.mark.parametrize("source", [None, 3, 2.5, b"runs.csv", np.ones((3, 3)), {1, 2}])
def test_what_is_no_table_is_refused(source):
    assert "runs are read from" in refused(source)


class Frame:
    """The least of a data frame: names, and a column for each."""

    def __init__(self, columns):
        self.columns = columns

    def keys(self):
        return self.columns.keys()

    def __getitem__(self, name):
        return self.columns[name]


def test_arrays_lists_tuples_and_frames_are_columns():
    columns = {"N": [1e6, 2e6], "tokens": (1e9, 3e9), "loss": np.array([3, 2]), 7: ["text", "of no interest"]}
    expected = [1e6, 2e6], [1e9, 3e9], [3.0, 2.0]
    for source in (columns, Frame(columns)):
        runs = read_runs(source)
        assert (runs.N.tolist(), runs.D.tolist(), runs.loss.tolist()) == expected


def test_pandas_frames_are_read():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"N": [1e6, 2e6], "D": [1e9, 3e9], "loss": [3.0, 2.0]}, index=["a", "b"])
    assert read_runs(frame).loss.tolist() == [3.0, 2.0]
    assert read_runs(frame[frame.N > 1e6]).N.tolist() == [2e6]
    frame.loc["b", "loss"] = None
    assert "row 1 has nan" in refused(frame)
    twice = pandas.DataFrame([[1e6, 2e6, 1e9, 3.0]], columns=["N", "N", "D", "loss"])
    assert "N is not one column" in refused(twice)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, copies=st.integers(1, 3), data=st.data())
def test_a_run_that_is_there_twice_is_named(rows, copies, data):
    again = data.draw(st.integers(0, len(rows) - 1))
    table = [*rows, *[rows[again]] * copies]
    sentence = refused(dict(zip(HEADER, zip(*table, strict=True), strict=True)))
    assert f"row {again}, row {len(rows)}" in sentence
    assert "are the same run" in sentence
    assert len(read_runs(dict(zip(HEADER, zip(*rows, strict=True), strict=True)))) == len(rows)


def test_the_same_run_from_another_source_is_named_with_its_source(write):
    one, two = write(text_of([(1e6, 1e9, 3.0)]), "a.csv"), write(text_of([(2e6, 1e9, 3.0), (1e6, 1e9, 3.0)]), "b.csv")
    assert "a.csv line 2, b.csv line 3 are the same run" in refused([one, two])
    assert "source 2: N must be positive and finite, but row 0" in refused([one, {"N": [0], "D": [1], "loss": [1]}])
    assert "b2.csv: " in refused([one, write("N,D\n1,2\n", "b2.csv")])


def test_several_sources_follow_one_another(write):
    path = write(text_of([(1e6, 1e9, 3.0)]))
    mapping = {"N": [2e6], "D": [1e9], "loss": [2.9], "U": [1e8]}
    runs = read_runs([path, read_runs(mapping), [mapping | {"N": [3e6]}]])
    assert runs.N.tolist() == [1e6, 2e6, 3e6]
    assert runs.labels[0] == "runs.csv line 2"
    assert runs.U is None
    assert read_runs([mapping]).U == [1e8]


def test_budgets_of_mixed_conventions_are_refused_and_pure_ones_noted():
    N, D = np.geomspace(1e6, 1e8, 6), np.geomspace(1e9, 1e10, 6)
    table = {"N": N, "D": D, "loss": np.linspace(4, 3, 6)}
    mixed = np.array([6, 2, 6, 6, 2.1, 6.2]) * N * D
    assert "C is about 2ND in 2 rows and 6ND or more in 4: row 1, row 4" in refused(table | {"C": mixed})
    assert "row 0, row 2 do not count as the others do (2ND)" in refused(
        table | {"C": np.array([6, 2, 6, 2, 2, 2]) * N * D}
    )
    assert read_runs(table | {"C": 6.1 * N * D}).notes == ()
    assert "forward passes alone" in read_runs(table | {"C": 2 * N * D}).notes[0]
    assert "more than 6" in read_runs(table | {"C": 7.5 * N * D}).notes[0]
    halves = [{name: column[half] for name, column in (table | {"C": mixed}).items()} for half in ([0, 2], [1, 4])]
    assert "C is about 2ND in 2 rows" in refused(halves)


@pytest.fixture
def sweep(tmp_path):
    """A directory of three finished runs and the trunk that two of them left."""
    for i, name in enumerate(["small/1e16", "small/2e16", "large/2e16", "small/trunk"]):
        folder = tmp_path / "sweep" / name
        folder.mkdir(parents=True)
        summary = {"N_matmul": 10**6 * (i + 1), "tokens": 10**9, "validation_loss": 3.0 - i / 10, "more": [1]}
        (folder / "summary.json").write_text(json.dumps(summary))
    return tmp_path / "sweep"


def test_a_directory_gives_its_finished_runs_and_not_their_trunks(sweep):
    runs = read_runs(sweep)
    assert runs.labels == ("large/2e16", "small/1e16", "small/2e16")
    assert runs.N.tolist() == [3e6, 1e6, 2e6]
    assert read_runs(str(sweep / "large" / "2e16")).labels == ("2e16",)
    assert read_runs([sweep / "large", sweep / "small"]).labels[0] == "large 2e16"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"N_matmul": 1e6, "tok', "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[1, 2]", "has no N_matmul, tokens, validation_loss"),
        (b"7", "has no N_matmul, tokens, validation_loss"),
        (b'{"N_matmul": 1e6, "tokens": 1e9}', "has no validation_loss"),
    ],
)
def test_a_summary_that_is_none_is_named(sweep, content, said):
    (sweep / "small" / "1e16" / "summary.json").write_bytes(content)
    sentence = refused(sweep)
    assert said in sentence
    assert str(sweep / "small" / "1e16" / "summary.json") in sentence


@pytest.mark.parametrize("value", ["null", "[3.0]", '"low"', "NaN", "-1", "1e999", "1" + "0" * 400])
def test_a_summary_with_a_faulty_number_is_named(sweep, value):
    text = '{"N_matmul": 1e6, "tokens": 1e9, "validation_loss": ' + value + "}"
    (sweep / "small" / "1e16" / "summary.json").write_text(text)
    assert "loss must be positive and finite, but small/1e16 has " in refused(sweep)


def test_a_directory_without_a_finished_run_is_said(tmp_path, sweep):
    (tmp_path / "empty").mkdir()
    assert "no finished run" in refused(tmp_path / "empty")
    assert "no finished run" in refused(sweep / "small" / "trunk")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["N", "D", "C", "U", "loss", "params", "other"]),
        st.lists(
            st.one_of(POSITIVE, st.floats(), st.integers(), st.text(max_size=5), st.none(), st.booleans()), max_size=4
        ),
        max_size=6,
    )
)
def test_no_mapping_does_worse_than_a_sentence(table):
    found = attempt(table)
    if isinstance(found, str):
        assert 0 < len(found) < 600
    else:
        assert_sound(found)
        assert len(found) == len(table["loss"])


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, data=st.data())
def test_taking_runs_keeps_every_column_and_label_together(rows, data):
    table = dict(zip(HEADER, zip(*rows, strict=True), strict=True)) | {"U": [row[1] / 2 for row in rows]}
    runs = read_runs(table)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    assume(mask.any())
    taken = runs.take(mask)
    assert taken.labels == tuple(f"row {i}" for i in np.flatnonzero(mask))
    assert taken.loss.tolist() == [row[2] for row, kept in zip(rows, mask, strict=True) if kept]
    assert taken.U.tolist() == [row[1] / 2 for row, kept in zip(rows, mask, strict=True) if kept]
    assert math.isclose(taken.C[0], 6 * taken.N[0] * taken.D[0], rel_tol=1e-14)


def test_other_delimiters_are_read_and_json_is_named(tmp_path):
    file = tmp_path / "runs.csv"
    for delimiter in ";\t":
        file.write_text(delimiter.join(("N", "D", "loss")) + "\n" + delimiter.join(("1e8", "2e9", "3.1")) + "\n")
        assert read_runs(file).loss.tolist() == [3.1]
    file.write_text('[{"N": 1, "D": 2, "loss": 3}]')
    with pytest.raises(ValueError, match=r"runs.csv: this is JSON, not CSV"):
        read_runs(file)


def test_a_column_serves_once_and_thousands_separators_are_named():
    with pytest.raises(ValueError, match="'D' is given for both N and D"):
        read_runs({"D": [1e9], "loss": [3.0]}, columns={"N": "D", "D": "D"})
    with pytest.raises(ValueError, match=r"'1,000,000' \(thousands separators are not understood\)"):
        read_runs({"N": ["1,000,000"], "D": ["1e9"], "loss": ["3"]})


def test_runs_that_repeat_their_data_are_told_which_form_knows_of_it():
    runs = read_runs({"N": [1e8, 2e8], "D": [8e9, 9e9], "U": [1e9, 1e9], "loss": [3.0, 2.9]})
    assert any("only DataConstrained counts them" in note for note in runs.notes)
