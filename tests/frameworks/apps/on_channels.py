"""A Django project in one file, with a chat over Django Channels and no database."""

from collections.abc import AsyncIterator
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["channels"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    USE_TZ=True,
)
django.setup()

from asgiref.sync import sync_to_async  # noqa: E402 - Django wants to be configured first
from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path, re_path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402


def home(request: HttpRequest) -> HttpResponse:
    """Answer from a thread, as classic views do."""
    return JsonResponse({"secure": request.is_secure(), "host": request.get_host()})


async def count(_request: HttpRequest) -> StreamingHttpResponse:
    async def numbers() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number}\n"
            await sync_to_async(lambda: None)()

    return StreamingHttpResponse(numbers(), content_type="text/plain")


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"fields": request.POST.dict(), "size": len(request.FILES["file"].read())})


class Chat(AsyncJsonWebsocketConsumer):
    """A room in which everybody hears everybody."""

    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def receive_json(self, content: Any, **_: Any) -> None:
        await self.channel_layer.group_send(self.room, {"type": "chat.said", "content": content})

    async def chat_said(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"])

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)
        await self.channel_layer.group_send(
            self.room, {"type": "chat.said", "content": {"left": self.scope["path"], "code": code}}
        )


urlpatterns = [path("", home), path("count", count), path("upload", upload)]

app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(
            URLRouter([re_path("^chat/(?P<room>[a-z]+)$", Chat.as_asgi())])
        ),
    }
)
