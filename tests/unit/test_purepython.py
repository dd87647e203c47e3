"""kafka-python trusts whom librdkafka trusts, with the project's own options."""

import ssl

import pytest

from tk.purepython import OptionUnknown, options


def test_the_projects_options(settings):
    settings.KAFKA_BROKER_URL = "a:1,b:2"
    settings.KAFKA_CLIENT = {"socket.timeout.ms": 5}
    assert options() == {"bootstrap_servers": "a:1,b:2", "security_protocol": "PLAINTEXT"}
    login = {"sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "ann", "sasl.password": "secret"}
    settings.KAFKA_CLIENT = login | {"security.protocol": "SASL_SSL", "client.id": "shop"}
    made = options()
    context = made.pop("ssl_context")
    assert made == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ann",
        "sasl_plain_password": "secret",
        "client_id": "shop",
    }
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("given", "verified", "named"),
    [
        ({"ssl.endpoint.identification.algorithm": "none"}, ssl.CERT_REQUIRED, False),
        ({"enable.ssl.certificate.verification": False}, ssl.CERT_NONE, False),
        ({"enable.ssl.certificate.verification": "true"}, ssl.CERT_REQUIRED, True),
    ],
)
def test_how_far_a_broker_is_looked_at(settings, given, verified, named):
    settings.KAFKA_CLIENT = {"security.protocol": "ssl"} | given
    context = options()["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (verified, named)


@pytest.mark.parametrize(
    "name", ["ssl.certificate.pem", "ssl.keystore.location", "sasl.oauthbearer.method", "oauth_cb"]
)
def test_what_has_no_counterpart_is_refused(settings, name):
    settings.KAFKA_CLIENT = {name: "x"}
    with pytest.raises(OptionUnknown, match=name):
        options()
