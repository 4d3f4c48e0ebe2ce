"""Of the cookies that a browser shows only those that may be the page's are looked at."""

import pytest

from app.gateway.cookies import without_strange_cookies

HOST = (b"host", b"x")


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        ([b"stellwerk_80=a.1.2.3"], b"stellwerk_80=a.1.2.3"),
        ([b'a="\\\\"; stellwerk_80=.1.0.0.ff;b=c; stellwerk_8080=x'], b"stellwerk_80=.1.0.0.ff; stellwerk_8080=x"),
        ([b"a=b", b"stellwerk_443=x"], b"stellwerk_443=x"),
        ([b"notstellwerk_80=x; stellwerk_=y; stellwerk_1=\xff", b'stellwerk_80="\\042"'], b""),
    ],
)
def test_the_pages_own(shown: list[bytes], kept: bytes) -> None:
    headers = [HOST, *((b"cookie", value) for value in shown)]
    assert without_strange_cookies(headers) == [HOST, (b"cookie", kept)]


def test_without_any() -> None:
    assert without_strange_cookies([HOST]) == [HOST]
