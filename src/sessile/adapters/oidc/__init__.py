"""Tokens of OpenID Connect issuers."""

from sessile.adapters.oidc.issuers import OidcIssuers, open_issuers

__all__ = ["OidcIssuers", "open_issuers"]
