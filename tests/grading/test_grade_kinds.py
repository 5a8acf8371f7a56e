r"""Own labelled pairs by kind of notation: (gold, equal answers, wrong answers close to right ones)."""

from __future__ import annotations

import pytest

from dpr_mini.grading.grader import Grader

KINDS: dict[str, list[tuple[str, list[str], list[str]]]] = {
    "constants": [
        (r"7+4\pi", ["7+4pi", r"4\pi + 7", "7 + 4*pi", r"7+4\text{π}".replace(r"\text{π}", "π"),  r"4\cdot\pi+7"],
         ["7+4", "11pi", r"7-4\pi", r"4+7\pi", "7pi+4"]),
        ("e", [r"\mathrm{e}", r"\text{e}", "e^1", r"\frac{e^3}{e^2}"], ["e^2", r"\mathrm{e}+1", "2.7", r"\pi"]),
        (r"\frac{3\pi}{8}", ["3pi/8", r"\frac{3}{8}\pi", r"0.375\pi", "3π/8"], [r"\frac{3}{8\pi}", "8pi/3", "3/8"]),
        (r"1-\frac{2}{e}", [r"1-\frac{2}{\mathrm{e}}", r"\frac{e-2}{e}", "1-2/e", "1 - 2e^{-1}"],
         [r"1+\frac{2}{\mathrm{e}}", r"1-\frac{1}{\mathrm{e}}", "1-2e", "1"]),
        (r"\ln 12", [r"\ln(12)", r"2\ln 2+\ln 3", r"\ln{12}"], [r"\ln 11", r"2\ln 3 + \ln 2", "12"]),
    ],
    "imaginary unit": [
        ("3-7i", ["-7i+3", "3-7*i", r"3 - 7\mathrm{i}", r"3-7\text{i}"], ["3+7i", "7-3i", "-4i", "3-7", "3i-7"]),
        ("-8i", ["8i^3", r"\frac{8}{i}"], ["8i", "-8", "8i^2", "(1+i)^3 (1+i)^3"]),
        (r"2e^{i\pi/6}", [r"\sqrt{3}+i", r"2e^{\frac{i\pi}{6}}"],
         [r"2\cos\frac{\pi}{6}+2i\sin\frac{\pi}{6}", r"1+i\sqrt{3}", r"2e^{-i\pi/6}", r"\sqrt3-i", r"e^{i\pi/6}"]),
        ("-1", ["i^2", r"e^{i\pi}", "i^{10}"], ["i", "i^4", r"e^{2i\pi}"]),
        (r"\frac{2+i}{5}", [r"\frac{1}{2-i}", r"\frac25+\frac i5", "0.4+0.2i"], [r"\frac{1}{2+i}", "2+i",
         r"\frac{2-i}{5}"]),
    ],
    "inequalities": [
        (r"[4,\infty)", [r"x \geq 4", "x>=4", r"4 \le x", r"x\geqslant 4", r"x \geqq 4", r"x \in [4,\infty)",
         r"[4, +\infty)"],
         ["x>4", r"x \le 4", r"(4,\infty)", r"[-4,\infty)", r"x \geq 5", "4"]),
        (r"(-3,5]", [r"-3<x\le 5", r"x\in(-3,5]", r"5 \ge x > -3", r"x>-3 \text{ and } x\le5"],
         [r"-3\le x\le5", "[-3,5]", "(-3,5)", r"-3<x<5", r"x \le 5", "(-3,6]"]),
        (r"(-\infty,-2]\cup[6,\infty)", [r"x\le-2 \text{ or } x\ge6", r"x \leq -2 \lor x \geq 6", r"x\le -2\vee x\ge 6",
                                         r"x\geq 6 \text{ or } x \leq -2", r"[6,\infty) \cup (-\infty,-2]",
                                         "x<=-2 or x>=6"],
         [r"x<-2 \text{ or } x>6", "[-2,6]", r"(-\infty,-2)\cup(6,\infty)", r"x\le-2 \text{ and } x\ge6", r"x \ge 6",
          r"(-\infty,2]\cup[6,\infty)"]),
        (r"x > \frac{2}{3}", ["3x>2", r"(\frac23,\infty)", r"\frac{2}{3}<x"], ["x<2/3", "2x>3", r"x \ge \frac23",
         "y > 2/3"]),
        (r"(-\infty,1)\cup(1,\infty)", [r"x \neq 1", r"x\ne1", r"\mathbb{R}\setminus\{1\}"], [r"x \neq -1",
         r"\mathbb{R}", "x>1", "1"]),
        (r"(0,1)\cup(1,2)", [r"0<x<1 \text{ or } 1<x<2", r"(1,2)\cup(0,1)"], ["(0,2)", r"(0,1]\cup(1,2)", r"0<x<2",
         r"(0,1)"]),
        (r"[-\sqrt{2},\sqrt{2}]", [r"-\sqrt2\le x\le\sqrt2", r"\left[-\sqrt{2},\sqrt{2}\right]"], [r"[-2,2]",
         r"(-\sqrt2,\sqrt2)"]),
        (r"y \leq 3", [r"y\leqq 3", "3 >= y", r"(-\infty, 3]"], ["x <= 3", "y < 3", "y >= 3"]),
    ],
    "plus-minus and lists": [
        (r"\pm 6", ["6, -6", r"x=\pm6", r"\{-6,6\}", "-6 and 6", r"x = 6 \text{ or } x = -6", "x=6, x=-6"],
         ["6", "-6", "6, 6", r"\pm 5", "6, -5", r"\pm 6, 0"]),
        (r"1 \pm \sqrt{5}", [r"1+\sqrt5, 1-\sqrt5", r"x = 1 \pm \sqrt{5}", r"\{1-\sqrt5,1+\sqrt5\}",
         r"\frac{2\pm\sqrt{20}}{2}"],
         [r"1+\sqrt5", r"-1\pm\sqrt5", r"1\pm\sqrt{6}", r"5 \pm 1"]),
        ("2, 9", ["9, 2", r"\{2,9\}", "x=2, x=9", r"2\text{ and }9", "x_1 = 2, x_2 = 9", "2 and 9", "2;9"],
         ["2", "9", "2, 9, 10", "2, 8", "29", "2.9", "(2,10)"]),
        (r"\{1,4,9\}", [r"\{9,4,1\}", "1,4,9", r"\left\{1,4,9\right\}"], [r"\{1,4\}", r"\{1,4,9,16\}", "(1,4,9)",
         r"\{1,4,-9\}"]),
        ("x=1, y=5", ["y=5, x=1", r"x=1 \text{ and } y=5"], ["x=5, y=1", "x=1", "x=1, y=6"]),
    ],
    "tuples and matrices": [
        (r"(2,-\frac{1}{3})", [r"\left(2,-\frac13\right)", r"(2.0, -1/3)", r"(\sqrt4, -\frac{2}{6})"],
         [r"(-\frac13,2)", r"(2,\frac13)", r"[2,-\frac13]", r"\{2,-\frac13\}", "(2,-1/3,0)", "2"]),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", [r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
         r"\begin{bmatrix}1&2\\3&4\end{bmatrix}",
                                                          r"\begin{pmatrix} 1 & 2.0 \\ 3 & 4 \end{pmatrix}"],
         [r"\begin{pmatrix} 1 & \frac{4}{2} \\ 3 & 4 \end{pmatrix}",
          r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", r"\begin{pmatrix}1&2&3&4\end{pmatrix}",
          r"\begin{pmatrix}1&2\\3&5\end{pmatrix}", "(1,2,3,4)"]),
        (r"\begin{pmatrix} 5 \\ -1 \end{pmatrix}", [r"\begin{pmatrix}5\\-1\end{pmatrix}",
         r"\begin{bmatrix} 5 \\ -1 \end{bmatrix}"],
         [r"\begin{pmatrix}5&-1\end{pmatrix}", r"\begin{pmatrix}-1\\5\end{pmatrix}",
          r"\begin{pmatrix}5\\1\end{pmatrix}"]),
        (r"(3,\frac{\pi}{2})", ["(3, pi/2)", r"\left(3, \frac{\pi}{2}\right)", r"(3,0.5\pi)"], [r"(3,\frac{\pi}{3})",
         "(3,1.57)", r"(-3,\frac{\pi}{2})"]),
    ],
    "units and degrees": [
        (r"14\text{ cm}", ["14", "14 cm", r"14\,\text{cm}", r"14\mathrm{cm}", "14 centimeters"], ["14 m",
         r"14\text{ mm}", "15 cm"]),
        (r"6\pi \text{ square units}", [r"6\pi", "6pi", r"6\pi\text{ square units}"], [r"6", r"5\pi", r"6\pi^2"]),
        (r"20\sqrt{3}\text{ cm}^2", [r"20\sqrt{3}", r"20\sqrt3 \text{ cm}^2", r"20\sqrt{3}\text{ square cm}"],
         [r"20\sqrt3\text{ cm}^3", r"20\sqrt2 \text{ cm}^2", r"3\sqrt{20}"]),
        (r"75^\circ", ["75", r"75^{\circ}", "75 degrees", "75°", r"\theta = 75^\circ"], [r"57^\circ", "7.5",
         r"15^\circ"]),
        (r"\frac{1}{2}", ["0.5", "2/4", "1/2"], [r"\sin 30^\circ", r"\cos(60^\circ)",
         r"\sin\frac{\pi}{6}", r"\sin 60^\circ",
         r"\cos 30^\circ", r"\sin 45^\circ"]),
        (r"45 \text{ minutes}", ["45", "45 minutes", "45 min"], ["45 hours", "54 minutes"]),
    ],
    "numbers": [
        (r"0.\overline{6}", [r"\frac{2}{3}", r"0.\overline{6}", r"0.\bar{6}", "2/3"], ["0.6", "3/5",
         r"0.\overline{63}", r"0.0\overline{6}"]),
        (r"\frac{7}{22}", [r"0.3\overline{18}", "7/22", r"\frac{14}{44}"], [r"0.\overline{318}", r"\frac{22}{7}",
         "0.318"]),
        (r"\frac{\sqrt{6}}{3}", [r"\sqrt{\frac{2}{3}}", r"\frac{\sqrt2}{\sqrt3}", r"\frac{2}{\sqrt{6}}", "sqrt(6)/3"],
         [r"\sqrt{\frac{3}{2}}", r"\frac{\sqrt6}{2}", r"\sqrt{6}", r"\frac{6}{3}"]),
        (r"\sqrt[3]{54}", [r"3\sqrt[3]{2}", r"54^{1/3}", r"3 \cdot 2^{\frac13}"], [r"3\sqrt{2}", r"2\sqrt[3]{3}",
         r"\sqrt{54}"]),
        (r"\frac{1}{\sqrt{3}+\sqrt{2}}", [r"\sqrt3-\sqrt2"], [r"\sqrt3+\sqrt2", r"\sqrt2-\sqrt3", "1"]),
        ("211_3", ["211_{3}", "(211)_3", r"211_{\text{three}}", "22_{10}"], ["211_4", "211", "121_3", "212_3", "22"]),
        ("36", ["36", r"6^2", "36.00"], ["36_7", r"6 \times 6", "3.6", "63"]),
        ("12345678", ["12,345,678", r"12{,}345{,}678", r"12,\! 345,\! 678", "12 345 678", r"1.2345678 \times 10^7"],
         ["1,234,567", "12,345,679", "123,456,78"]),
    ],
    "approximations": [
        (r"\sqrt{7}", [r"\sqrt{7} \approx 2.646", r"x = \sqrt7 \approx 2.65"], [r"\sqrt{7}\approx 2.5",
         r"\sqrt 8 \approx 2.83", r"7 \approx \sqrt{7}"]),
        (r"\frac{1}{7}", [r"\frac17 \approx 0.143"], [r"\frac17 \approx 0.15", r"\frac18\approx 0.125",
         r"0.14 \approx \frac{1}{6}"]),
        (r"\frac{26}{5}", [r"\frac{26}{5} \approx 5.2"], [r"5 \approx \frac{26}{5}", r"5.1 \approx \frac{26}{5}"]),
        ("2.65", [r"\sqrt{7} \approx 2.65"], [r"\sqrt{7} \approx 2.6", r"\sqrt{8} \approx 2.65"]),
        ("9", [r"x = 9"], [r"9 \approx 8", r"8 \approx 9", r"9 \approx 9.4"]),
    ],
    "expressions": [
        (r"x^2-4", ["(x-2)(x+2)", "-4+x^2", r"x^{2} - 4", "(x+2)(x-2)"], ["(x-2)^2", "x^2+4", "4-x^2", "x^2-2", "x-4"]),
        (r"\frac{x}{x+1}", [r"1-\frac{1}{x+1}", "x/(x+1)"], [r"\frac{x+1}{x}", r"\frac{1}{x+1}", r"1+\frac{1}{x+1}",
         "x/x+1"]),
        ("2ab+b^2", ["b^2+2ab", "b(2a+b)", "2ba + b^2"], ["2ab+b", "2a+b^2", "a^2+2ab", "2AB+B^2"]),
        ("y=3x-2", ["3x-2", "y = -2+3x"], ["y=3x+2", "y=2x-3", "3x"]),
        (r"\frac{n(n+1)}{2}", [r"\frac{n^2+n}{2}", "n(n+1)/2", r"\frac12 n(n+1)"], ["n(n+1)", r"\frac{n(n-1)}{2}",
         r"\frac{n^2+1}{2}"]),
        (r"2\sin x\cos x", [r"2\cos x\sin x", r"2\sin(x)\cos(x)"], [r"\sin x \cos x", r"2\sin x"]),
        ("3^{n+1}", ["3^{1+n}"], ["3^{n-1}", "3^n", "3^n+1", "3n+1"]),
    ],
    "what parsers drop": [
        (r"2\text{ hours }15\text{ minutes}", [r"2 \text{ hours } 15 \text{ minutes}"],
         [r"2\text{ hours }45\text{ minutes}", "2 hours", r"15\text{ hours }2\text{ minutes}"]),
        ("g'(x)", ["g'(x)"], ["g(x)", "g''(x)", "f'(x)"]),
        (r"4 \text{ hundred}", ["400", "4 hundred"], ["4", "4000", r"4\text{ thousand}"]),
        (r"x \equiv 3 \pmod 8", [r"x\equiv3\pmod8"], [r"x \equiv 3 \pmod 9", r"x\equiv 4\pmod 8"]),
        ("(a,b)=(2,7)", ["(2,7)", "a=2, b=7", "b=7,a=2"], ["(7,2)", "a=7, b=2", "(a,b)=(7,2)"]),
        ("x=3", ["3", "x = 3.0"], ["y=3", r"x \ne 3", "x=-3", "x>3"]),
        ("7", [r"\sqrt{49}"], ["7 or more", "<7", r"7 \to 8", "7-9", "7/9", "7:9", r"7\text{ and }8", r"\boxed{7} 8"]),
    ],
    "words and choices": [
        (r"\text{Tuesday}", ["Tuesday", "tuesday", r"\textbf{Tuesday}"], ["Thursday", "Tuesdae", "2"]),
        ("C", [r"\text{(C)}", "(C)", "C.", r"\textbf{C}"], ["D", r"\text{(B)}", "ABC"]),
        (r"\text{even}", ["even", r"\mathrm{even}"], ["odd", "never", "neve"]),
    ],
}  # fmt: skip
PAIRS = [
    (kind, gold, answer, equal)
    for kind, rows in KINDS.items()
    for gold, right, wrong in rows
    for equal, answers in ((True, right), (False, wrong))
    for answer in answers
]


@pytest.fixture(scope="module")
def found():
    with Grader(workers=2) as grader:
        return dict(grader.grade_many((i, g, rf"So \boxed{{{a}}}.") for i, (_, g, a, _) in enumerate(PAIRS)))


def test_the_table_is_large_and_balanced():
    assert len(PAIRS) >= 300 and 0.4 < sum(p[3] for p in PAIRS) / len(PAIRS) < 0.6
    assert len(set(PAIRS)) == len(PAIRS)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_wrong_is_accepted(found, kind):
    assert not [(PAIRS[i][1:3], v) for i, v in found.items() if PAIRS[i][0] == kind and v.ok and not PAIRS[i][3]]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_right_is_accepted(found, kind):
    assert not [(PAIRS[i][1:3], v) for i, v in found.items() if PAIRS[i][0] == kind and PAIRS[i][3] and not v.ok]
