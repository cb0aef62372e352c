"""ADK's echo: an agent without a model, which answers the same text, in a second where asked to."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator

from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import Event


class _Echo(BaseAgent):
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        if "wait a second" in ctx.user_content.parts[0].text:
            await asyncio.sleep(1)
        content = ctx.user_content.model_copy(update={"role": "model"})
        yield Event(author=self.name, invocation_id=ctx.invocation_id, content=content)


root_agent = _Echo(name="echo")

if probes := os.environ.get("PROBES"):  # the directory of the checker's probes
    sys.path.append(probes)
    import adk_probe

    root_agent = adk_probe.root_agent
