"""How webhooks are sent, and where they may be sent to."""

from sessile.adapters.webhooks.addresses import Addresses
from sessile.adapters.webhooks.sender import WebhookSender

__all__ = ["Addresses", "WebhookSender"]
