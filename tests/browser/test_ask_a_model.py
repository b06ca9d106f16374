"""The page on which a person asks a model: a form, an answer, and why it is that."""

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from mlops_assets.lake import TableName
from mlops_assets.serving.security import Scope, TokenStore
from tests.browser.conftest import PATIENCE_MS, Keep
from tests.demo import Demo
from tests.servers import free_port, serving, wait_until

pytestmark = [pytest.mark.demo, pytest.mark.browser, pytest.mark.timeout(1800)]

FAMILY = "flight_delay"
MINUTES = "arrival_delay_minutes"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def model_server(demo_copy: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The model server over the demo, started as `mlops serve`; gives its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with serving(
        [
            *(sys.executable, "-m", "mlops_assets.cli.main", "serve"),
            *("--port", str(port), "--workers", "1"),
        ],
        demo_copy.environment,
        ready=f"{address}/health",
        log=tmp_path_factory.mktemp("serve") / "log",
    ):
        yield address


@pytest.fixture
def asking(page: Page, model_server: str) -> Page:
    """The page, with the form of the binary model."""
    open_form(page, model_server)
    return page


def open_form(page: Page, model_server: str, family: str = FAMILY) -> None:
    def is_ready() -> bool:
        status: int = page.request.get(f"{model_server}/ready").status
        return status == 200

    wait_until(is_ready, "models are deployed")
    page.goto(model_server)
    page.get_by_label("Model").select_option(family)
    expect(page.locator("#version")).to_contain_text(f"{family}/")


def ask(page: Page) -> None:
    page.get_by_role("button", name="Predict").click()


def answer_of(page: Page, model_server: str, family: str, question: Any) -> Any:
    """Ask the same as the page does, without it."""
    answer = page.request.post(
        f"{model_server}/models/{family}/predict?explain=true", data=question
    )
    assert answer.status == 200, answer.text()
    [prediction] = answer.json()["predictions"]
    return prediction


def example(page: Page, model_server: str, family: str) -> dict[str, Any]:
    found: dict[str, Any] = page.request.get(f"{model_server}/models/{family}").json()["example"]
    return found


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def test_a_person_fills_the_form_and_sees_why(asking: Page, model_server: str, keep: Keep) -> None:
    asking.get_by_label("Find a feature").fill("departure minute of day")
    asking.locator("#feature-departure_minute_of_day").fill("1140")
    asking.get_by_label("Find a feature").fill("")
    ask(asking)
    row = example(asking, model_server, FAMILY) | {"departure_minute_of_day": 1140}
    expected = answer_of(asking, model_server, FAMILY, {"rows": [row]})
    expect(asking.locator("#headline")).to_have_text(percent(expected["probability"]))
    said = "The answer is yes" if expected["yes"] else "The answer is no"
    expect(asking.locator("#meaning")).to_contain_text(said)

    bars = asking.locator("#bars tbody tr")
    expect(bars).to_have_count(12)
    contributions = expected["explanation"]["contributions"]
    for place in range(12):
        told = contributions[place]
        shown = bars.nth(place)
        expect(shown.locator("td").nth(0)).to_have_text(told["feature"].replace("_", " "))
        expect(shown.locator("td").nth(2)).to_have_text(f"{told['contribution']:+.3f}")
        # A bar of its own length, to the left for less and to the right for more.
        width = shown.locator(".side div").bounding_box()
        assert width
        assert width["width"] > 0
        side = "left" if told["contribution"] < 0 else "right"
        expect(shown.locator(f".side.{side} div")).to_have_count(1)
    keep(asking, "ask-a-model")

    asking.get_by_role("button", name=f"Show all {len(contributions)} features").click()
    expect(bars).to_have_count(len(contributions))
    asking.get_by_role("button", name="Show fewer").click()
    expect(bars).to_have_count(12)


def test_what_is_shown_is_of_the_question_that_was_asked(asking: Page) -> None:
    ask(asking)
    expect(asking.locator("#headline")).to_have_text(re.compile(r"^\d+\.\d %$"))
    result = asking.locator("#result")
    expect(result).not_to_have_class(re.compile("stale"))
    asking.locator("#feature-departure_minute_of_day").fill("600")
    expect(result).to_have_class(re.compile("stale"))
    ask(asking)
    expect(result).not_to_have_class(re.compile("stale"))


def test_a_flight_is_asked_for_by_its_key(asking: Page, model_server: str, demo_copy: Demo) -> None:
    table = TableName.parse("marts/spine_flights")
    with demo_copy.lake.connect(tables=[table]) as con:
        [(flight,)] = con.execute(
            f"SELECT flight_id FROM {table.sql} WHERE flight_id IS NOT NULL ORDER BY ALL LIMIT 1"
        ).fetchall()
    asking.get_by_role("tab", name="By its key").click()
    asking.get_by_label("flight id").fill(str(flight))
    ask(asking)
    expected = answer_of(asking, model_server, FAMILY, {"entities": [{"flight_id": flight}]})
    expect(asking.locator("#headline")).to_have_text(percent(expected["probability"]))

    asking.get_by_label("flight id").fill("no such flight")
    ask(asking)
    problem = asking.get_by_role("alert")
    expect(problem).to_contain_text("These entities are not known")
    expect(asking.locator("#answer")).to_be_hidden()


def test_what_comes_late_of_a_model_chosen_before_is_left_out(
    asking: Page, model_server: str
) -> None:
    """Its description is held back until another model is chosen, and so is an answer."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    asking.route(f"{model_server}/models/{MINUTES}", hold)
    asking.get_by_label("Model").select_option(MINUTES)
    expect(asking.get_by_role("button", name="Predict")).to_be_disabled()
    asking.get_by_label("Model").select_option(FAMILY)
    expect(asking.get_by_role("button", name="Predict")).to_be_enabled()
    with asking.expect_response(f"{model_server}/models/{MINUTES}"):
        held.pop().continue_()
    expect(asking.locator("#version")).to_contain_text(f"{FAMILY}/")

    asking.unroute(f"{model_server}/models/{MINUTES}")
    asking.route(f"{model_server}/models/{FAMILY}/predict*", hold)
    asking.evaluate(
        """() => {
            window.said = [];
            const meaning = document.getElementById("meaning");
            const note = () => window.said.push(meaning.textContent);
            new MutationObserver(note).observe(meaning, { childList: true });
        }"""
    )
    ask(asking)
    asking.get_by_label("Model").select_option(MINUTES)
    expect(asking.locator("#version")).to_contain_text(f"{MINUTES}/")
    with asking.expect_response(f"{model_server}/models/{FAMILY}/predict*"):
        held.pop().continue_()
    ask(asking)
    expect(asking.locator("#meaning")).to_contain_text(f"Answered by {MINUTES}/")
    said = asking.evaluate("window.said")
    assert len(said) == 1, said


def test_a_number_is_answered_with_its_interval(page: Page, model_server: str) -> None:
    open_form(page, model_server, MINUTES)
    ask(page)
    expect(page.locator("#headline")).to_have_text(re.compile(r"^-?[\d,.]+$"))
    expect(page.locator("#meaning")).to_contain_text(re.compile("q10 .*, q50 .*, q90 "))
    expect(page.locator("#gauge")).to_be_hidden()
    expect(page.locator("#bars tbody tr")).to_have_count(12)


def test_a_mistake_is_shown_where_it_was_made_until_it_is_mended(asking: Page) -> None:
    wrong = asking.locator("#feature-day_of_week")
    wrong.fill("1.5")
    ask(asking)
    problem = asking.get_by_role("alert")
    expect(problem).to_contain_text("The request is not valid")
    expect(problem).to_contain_text("day of week: fraction, where a whole number is expected")
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(wrong).to_have_accessible_description("fraction, where a whole number is expected")
    expect(asking.locator("#answer")).to_be_hidden()

    wrong.fill("2")
    ask(asking)
    expect(asking.locator("#headline")).to_be_visible()
    expect(problem).to_be_hidden()
    expect(wrong).not_to_have_attribute("aria-invalid", "true")


def test_what_the_model_never_saw_is_said_beside_the_answer(asking: Page) -> None:
    asking.locator("#feature-operating_carrier").fill("<b>ZZ</b>")
    ask(asking)
    expect(asking.locator("#warnings")).to_contain_text("operating_carrier: 1 of 1 not seen")
    expect(asking.locator("#headline")).to_be_visible()
    assert asking.locator("#result b").count() == 0  # text, whatever it looks like


def test_the_page_is_quiet(page: Page, model_server: str) -> None:
    """No error in the browser's console, nothing fetched from elsewhere."""
    said: list[str] = []
    fetched: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    open_form(page, model_server)
    ask(page)
    expect(page.locator("#headline")).to_be_visible()
    assert said == []
    assert [url for url in fetched if not url.startswith((model_server, "data:"))] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_in_both_themes(browser: Browser, model_server: str, theme: Any) -> None:
    context = browser.new_context(
        viewport={"width": 1480, "height": 1000}, color_scheme=theme, timezone_id="UTC"
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    open_form(page, model_server)
    page.locator("#feature-operating_carrier").fill("ZZ")
    ask(page)
    expect(page.locator("#headline")).to_be_visible()
    brightness = page.evaluate(BRIGHTNESS, "body")
    assert brightness > 0.8 if theme == "light" else brightness < 0.2
    for what in (
        *("h1", "#description", "#version", "#ask", "#by-key", "#headline", "#meaning"),
        *(".field label", ".field small", ".field input", "#bars td", "#warnings li", "#more"),
    ):
        assert page.evaluate(CONTRAST, what) >= 4.5, what  # WCAG 2.2, level AA
    context.close()


# Relative luminance and contrast as WCAG 2.2 defines them.
_LUMINANCE = """
    const channels = (color) => color.match(/[0-9.]+/g).map(Number);
    const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const ground = (found) => {
        for (let at = found; at; at = at.parentElement) {
            const color = channels(getComputedStyle(at).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const found = document.querySelector(selector);
"""
BRIGHTNESS = f"(selector) => {{ {_LUMINANCE} return luminance(ground(found)); }}"
CONTRAST = f"""(selector) => {{
    {_LUMINANCE}
    const [low, high] = [
        luminance(channels(getComputedStyle(found).color)), luminance(ground(found)),
    ].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
}}"""


def test_on_a_phone_everything_fits_and_the_answer_comes_into_view(
    browser: Browser, model_server: str
) -> None:
    context = browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    open_form(page, model_server)
    ask(page)
    expect(page.locator("#headline")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    context.close()


def test_with_tokens_the_page_asks_for_one(page: Page, model_server: str, demo_copy: Demo) -> None:
    """The last test of this file: from here on the server wants tokens."""
    open_form(page, model_server)
    store = TokenStore(demo_copy.home / "serving" / "tokens.json")
    secret = store.create("page", [Scope.predict, Scope.explain]).secret

    def wants_a_token() -> bool:
        status: int = page.request.get(f"{model_server}/models").status
        return status == 401

    wait_until(wants_a_token, "the server wants a token", seconds=30)
    page.reload()
    field = page.get_by_label("Token")
    expect(field).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("A valid token is needed")
    field.fill(secret)
    field.press("Enter")
    expect(page.locator("#version")).to_contain_text("/")
    ask(page)
    expect(page.locator("#headline")).to_be_visible()
    page.reload()
    ask(page)
    expect(page.locator("#headline")).to_be_visible()
