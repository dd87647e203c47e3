"""The second language: everything that is marked for translation is translated, and what ships is what was translated."""

import ast
import gettext
import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.urls import reverse
from django.utils.translation.template import templatize

ROOT = Path(__file__).parents[2]
CALLS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy", "pgettext", "pgettext_lazy"}
CALL = re.compile(
    r"""\b(_|gettext|ngettext|pgettext)\(\s*u?('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")(?:\s*,\s*u?('(?:\\.|[^'\\])*'))?"""
)
HTML = {"Accept": "text/html"}


def marked(app: str) -> set[str]:
    """The keys of everything in the app's code and templates that is to be translated, as gettext has them."""
    found: set[str] = set()
    for path in (ROOT / app).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
                texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                if texts:  # else a variable, whose text is marked where it is made
                    found.add(_key(node.func.id, texts))
    for path in (ROOT / app).rglob("*.html"):
        for name, first, second in CALL.findall(templatize(path.read_text())):
            found.add(_key(name, [ast.literal_eval(text) for text in (first, second) if text]))
    return found


def _key(name: str, texts: list[str]) -> str:
    return f"{texts[0]}\x04{texts[1]}" if name.startswith("pgettext") else texts[0]


def entries(path: Path) -> Iterator[tuple[str, list[str], bool]]:
    """The key, the translations and whether it is fuzzy, of each entry of a .po file."""
    for block in path.read_text().split("\n\n"):
        parts: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if match := re.match(r'(msg\w+(?:\[\d\])?) (".*")$', line):
                name = match[1]
                parts[name] = ast.literal_eval(match[2])
            elif line.startswith('"'):
                parts[name] += ast.literal_eval(line)
        if parts.get("msgid"):
            key = f"{parts['msgctxt']}\x04{parts['msgid']}" if "msgctxt" in parts else parts["msgid"]
            yield key, [text for name, text in parts.items() if name.startswith("msgstr")], "#, fuzzy" in block


@pytest.mark.parametrize("app", ["tk", "tkcons"])
def test_everything_is_translated_and_compiled(app):
    folder = ROOT / app / "locale" / "de" / "LC_MESSAGES"
    there = {key: texts for key, texts, fuzzy in entries(folder / "django.po") if all(texts) and not fuzzy}
    assert marked(app) == there.keys(), "make messages, then translate what is empty or fuzzy"
    with (folder / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    flat = {(key, number): text for key, texts in there.items() for number, text in enumerate(texts)}
    shipped = {(key if isinstance(key, tuple) else (key, 0)): text for key, text in compiled.items() if key}
    assert shipped == flat, "make messages"


def test_placeholders_are_kept():
    for app in ("tk", "tkcons"):
        for key, texts, _ in entries(ROOT / app / "locale" / "de" / "LC_MESSAGES" / "django.po"):
            for text in texts:
                assert set(re.findall(r"%\(\w+\)[sdr]", text)) == set(re.findall(r"%\(\w+\)[sdr]", key)), key


def test_the_browsers_language_counts_until_another_is_chosen(admin_client):
    german = HTML | {"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}
    page = admin_client.get("/tkcons/status", headers=german).content.decode()
    assert '<html lang="de">' in page
    assert "Nachrichten" in page
    assert '<html lang="en">' in admin_client.get("/tkcons/status", headers=HTML).content.decode()
    admin_client.post(reverse("set_language"), {"language": "de", "next": "/tkcons/status"})
    assert '<html lang="de">' in admin_client.get("/tkcons/status", headers=HTML).content.decode()


def test_what_programs_read_is_never_translated(admin_client):
    german = {"Accept-Language": "de"}
    assert admin_client.post("/tkcons/stop", headers=german).content == b"Stopped consumer"
    assert admin_client.post("/tkcons/stop", headers=german | HTML).content.decode().count("Stopped consumer") == 1


@pytest.mark.parametrize(
    ("address", "english", "translated"),
    [
        ("/tkcons/group?name=x", "There is no group 'x'; there are:", "Es gibt keine Gruppe 'x'; es gibt:"),
        ("/tkcons/read/orders/0/1", "There is no such message here.", "Eine solche Nachricht gibt es hier nicht."),
        (
            "/tkcons/export?partition=x",
            "partition: Enter a whole number.",
            "partition: Bitte eine ganze Zahl eingeben.",
        ),
    ],
)
def test_what_is_refused_is_told_in_the_viewers_language_on_a_page_alone(admin_client, address, english, translated):
    german = {"Accept-Language": "de"}
    told = admin_client.get(address, headers=german | {"Accept": "application/json"}).json()
    assert told["error"].startswith(english)
    page = admin_client.get(address, headers=german | HTML)
    assert page.status_code in {400, 404}
    assert f'role="alert">{translated}' in html.unescape(page.content.decode())
