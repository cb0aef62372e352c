"""Who signs in with a password: is told who they are, and leaves nothing behind."""

import asyncio
import subprocess
import sys

import httpx2
from playwright.async_api import Locator, expect
from tests.browser.conftest import Enter
from tests.browser.site import Site
from tests.cli.conftest import environment

PASSWORD = "correct horse battery"


async def add_user(site: Site, user: str) -> None:
    command = [sys.executable, "-m", "sessile", "users", "add", "main", user]
    options = [
        "--role",
        "admin",
        "--password-stdin",
        "--data-dir",
        str(site.directory / "sessile-data"),
    ]
    await asyncio.to_thread(
        subprocess.run,
        [*command, *options],
        input=f"{PASSWORD}\n".encode(),
        check=True,
        env=environment(),
    )


async def test_a_password_signs_in_and_signing_out_ends_what_it_gave(
    entering: Enter, own_site: Site
) -> None:
    await add_user(own_site, "rosa")
    person = await entering(own_site, token="none", locale="fr-FR")
    page = person.page
    person.losses_expected = True
    await page.goto(person.url)
    form: Locator = page.get_by_role("form", name="Se connecter avec un mot de passe")

    await form.get_by_label("Utilisateur").fill("rosa")
    await form.get_by_label("Mot de passe").fill("wrong password")
    await form.get_by_role("button").click()
    await expect(page.get_by_role("alert")).to_contain_text("le mot de passe est un autre")
    await form.get_by_label("Mot de passe").fill(PASSWORD)
    await form.get_by_role("button").click()
    await expect(page.get_by_role("banner")).to_contain_text("rosa")
    await expect(page.get_by_title("rosa, de main (admin)")).to_be_visible()
    token = str(await page.evaluate("sessionStorage.getItem('sessile.token')"))
    await person.button("Se déconnecter").click()

    await expect(form).to_be_visible()
    assert await page.evaluate("sessionStorage.getItem('sessile.token')") is None
    async with httpx2.AsyncClient(base_url=own_site.url) as http:
        headers = {"authorization": f"Bearer {token}"}
        assert token.startswith("st_")
        assert (await http.get("/v1/me", headers=headers)).status_code == 401
