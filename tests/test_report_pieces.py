import re
import subprocess
import sys

import pytest

from isoflop.report.markup import text
from isoflop.report.numberline import Bar, number_line
from isoflop.report.scales import log_ticks, round_step, scientific, spread


def test_text_escapes_markup_and_shows_what_cannot_be_seen():
    assert text('<a href="x">&') == "&lt;a href=&quot;x&quot;&gt;&amp;"
    assert text("a\x00\x1b\x7f\u200b\u2066\ufeff\udfff") == "a\\x00\\x1b\\x7f\\u{200b}\\u{2066}\\u{feff}\\u{dfff}"
    assert text("kept: \n\t ä 中 é 🙂") == "kept: \n\t ä 中 é 🙂"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1e12, "10¹²"),
        (4e11, "4×10¹¹"),
        (2.44e13, "2.44×10¹³"),
        (9.999e11, "10¹²"),
        (1e-4, "10⁻⁴"),
        (0.5, "0.5"),
        (2412.6, "2413"),
    ],
)
def test_numbers_are_written_as_people_do(value, said):
    assert scientific(value) == said


@pytest.mark.parametrize(
    ("low", "high"), [(3e4, 3e5), (9e4, 2e5), (1e3, 1e9), (4.1e11, 2.4e13), (5e4, 5.01e4), (1, 1e30)]
)
def test_ticks_are_few_round_and_inside(low, high):
    ticks = log_ticks(low, high)
    assert len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(ticks)
    assert len(ticks) >= 3


def test_labels_are_moved_apart_and_keep_their_order():
    moved = spread([1.0, 1.01, 5.0, 0.99], 0.5)
    assert moved[2] == 5.0
    assert moved[3] < moved[0] < moved[1]
    assert moved[0] - moved[3] == pytest.approx(0.5, abs=0.01)


def test_the_number_line_keeps_to_scale():
    line = number_line([Bar("all", 2.0, 2.5, 3.0, main=True)], 4.0, "nats")
    left, width = (float(x) for x in re.search(r'class="bar" style="left:([\d.]+)%;width:([\d.]+)%', line).groups())
    middle = float(re.search(r'class="mid" style="left:([\d.]+)%', line)[1])
    at = float(re.search(r'class="at" style="left:([\d.]+)%', line)[1])
    assert middle == pytest.approx(left + width / 2, abs=0.02)
    assert at == pytest.approx(left + 2 * width, abs=0.02)
    assert 0 < left < at < 100


def test_a_number_line_of_one_point_stands():
    assert "2.000" in number_line([Bar("exact", 2.0, 2.0, 2.0)], None, "nats")


@pytest.mark.parametrize("span", [0.003, 0.4, 1, 7, 1234])
def test_steps_are_round_and_enough(span):
    step = round_step(span)
    assert 2 <= span / step <= 5.01


def test_importing_the_room_is_cheap():
    code = "import sys, isoflop.report; sys.exit(bool({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
