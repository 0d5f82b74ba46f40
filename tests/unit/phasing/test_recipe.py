import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_bcdi.phasing.operators import (
    ADMM,
    CHIO,
    DM,
    ER,
    HIO,
    HPR,
    RAAR,
    SF,
    Detwin,
    LowToHigh,
    PhaseRange,
    Positivity,
    ShrinkWrap,
)
from live_bcdi.phasing.recipe import Operator, Recipe, parse
from live_bcdi.types import ScanError

operators = st.one_of(
    st.just(ER()),
    st.just(SF()),
    st.builds(HIO, beta=st.floats(0.1, 2)),
    st.builds(RAAR, beta=st.floats(0.1, 2)),
    st.builds(
        ShrinkWrap,
        sigma=st.floats(0.1, 9),
        threshold=st.floats(1e-3, 0.9),
        sigma_end=st.none() | st.floats(0.1, 9),
        level=st.sampled_from(["relative", "absolute", "percentile", "otsu"]),
        largest=st.floats(0.1, 1),
    ),
    st.builds(ADMM, rho=st.floats(0.1, 2), gamma=st.floats(0.1, 2)),
    st.builds(CHIO, alpha=st.floats(0.1, 0.9), beta=st.floats(0.1, 2)),
    st.builds(HPR, beta=st.floats(0.1, 2)),
    st.builds(DM, beta=st.floats(0.1, 2)),
    st.builds(Detwin, axis=st.sampled_from([0, 1, 2])),
    st.builds(PhaseRange, low=st.floats(-3, -0.1), high=st.floats(0, 3)),
    st.just(Positivity()),
    st.builds(LowToHigh, width=st.floats(0.1, 2), until=st.floats(0.1, 1)),
)
recipes = st.recursive(
    operators,
    lambda parts: st.one_of(
        st.builds(lambda a, b: a + b, parts, parts), st.builds(lambda n, body: n * body, st.integers(1, 9), parts)
    ),
    max_leaves=8,
)


@given(recipes)
def test_text_and_back(recipe: Recipe):
    assert parse(str(recipe)) == recipe


def test_text_is_python():
    text = "3*(20*ER + 180*HIO(beta=0.8) + ShrinkWrap(sigma=2, threshold=0.2)) + 20*ER"
    assert parse(text) == 3 * (20 * ER + 180 * HIO(beta=0.8) + ShrinkWrap(sigma=2, threshold=0.2)) + 20 * ER
    assert str(parse(text)) == text


def test_cohere_recipe_runs_in_time_order():
    steps = list(parse("3*(20*ER+180*HIO)+20*ER"))
    assert steps == 3 * (20 * [ER()] + 180 * [HIO()]) + 20 * [ER()]
    assert len(parse("3*(20*ER+180*HIO)+20*ER")) == 620


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("20*HOI", "no operator 'HOI'; there are .*HIO"),
        ("HIO(gamma=1)", "no argument 'gamma'; it has beta"),
        ("HIO(beta=-1)", "positive beta"),
        ("HIO(beta='big')", "positive beta"),
        ("HIO(beta=ER)", "a number or a quoted word"),
        ("CHIO(alpha=1)", "alpha below 1"),
        ("DM(beta=0)", "positive beta"),
        ("ADMM(rho=-1)", "positive rho"),
        ("Detwin(axis=3)", "axis of 0, 1 or 2"),
        ("PhaseRange(low=1, high=0)", "low below high"),
        ("PhaseRange(high=4)", "high of -pi to pi"),
        ("LowToHigh(until=0)", "positive until"),
        ("ShrinkWrap(level='none')", "no level 'none'; there are relative"),
        ("ShrinkWrap(level='percentile', threshold=100)", "percentile below 100"),
        ("ShrinkWrap(sigma_end=0)", "positive sigma_end"),
        ("ShrinkWrap(smallest=0.4, largest=0.2)", "smallest < largest"),
        ("ShrinkWrap(smallest='a')", "smallest < largest"),
        ("ShrinkWrap(largest=None)", "smallest < largest"),
        ("HIO(beta=1e999)", "positive beta"),
        ("HIO(beta={[]: 1})", "a number or a quoted word"),
        (" + ".join(500 * ["ER", "HIO"]), "too many parts"),
        (" + ".join(3000 * ["ER", "HIO"]), "too many parts"),
        ("0*ER", "at least once"),
        ("2.5*ER", "is not an operator"),
        ("True*ER", "is not an operator"),
        ("ER - HIO", "is not an operator"),
        ("20*ER +", "not understood"),
        ("", "not understood"),
        ("__import__('os').system('true')", "is not an operator"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str):
    with pytest.raises(ScanError, match=message):
        parse(text)


def test_strangers_are_refused():
    with pytest.raises(TypeError):
        ER() + 3
    with pytest.raises(TypeError):
        1.5 * ER()


def test_every_operator_is_known_by_its_name():
    assert all(Operator.known[name] is kind for name, kind in {"ER": ER, "HIO": HIO, "RAAR": RAAR}.items())
