"""What calsync serve listens on."""

import pytest

from calsync.cli.serve import check_listening
from calsync.core.errors import Invalid


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_tokens(host):
    check_listening(host, tokens=[], hosts=[])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "calsync.example.org", "localhost.example.org", ""])
def test_elsewhere_it_does_not_listen_without_tokens_or_names(host):
    with pytest.raises(Invalid, match="CALSYNC_TOKENS"):
        check_listening(host, tokens=[], hosts=["calsync.example.org"])
    with pytest.raises(Invalid, match=r"server\.hosts"):
        check_listening(host, tokens=["ana"], hosts=[])
    check_listening(host, tokens=["ana"], hosts=["calsync.example.org"])
