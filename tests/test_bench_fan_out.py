"""What is counted for each form is the fan-out to those whom it says that it reaches."""

import pytest

from bench.fan_out import page
from bench.hub_forms import FORMS, fan_out


@pytest.mark.parametrize("name", FORMS)
async def test_each_form_reaches_its_share(name: str) -> None:
    form = FORMS[name]
    assert await fan_out(form, 1000, 4, 1) == round(4 * 1000 * form.share)


def test_tells_ratios_and_what_a_delivery_takes() -> None:
    text = page([("json", 400_000.0), ("10 filters, one passes", 100_000.0)], 1000)
    assert text.splitlines()[-2:] == [
        "| json | 400,000 | 1.00 | 400 |",
        "| 10 filters, one passes | 100,000 | 0.25 | 1,000 |",
    ]
