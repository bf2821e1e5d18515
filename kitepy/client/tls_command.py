"""``kitepy tls``: make, renew and list the certificates by which other machines may use this machine's engine."""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from pathlib import Path

from kitepy.client.tls import DAYS, CertificateDirectory, TlsError, default_directory, own_hosts

_SOON_DAYS = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands and their options."""
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make an authority, the engine's certificate and one for each client")
    create.add_argument(
        "--host", action="append", metavar="NAME", help="name or address by which clients reach the engine (this machine's own)"
    )
    create.add_argument("--client", action="append", metavar="NAME", help="who gets a client certificate (client)")
    client = actions.add_parser("client", help="make a certificate for one more client")
    client.add_argument("name")
    renew = actions.add_parser("renew", help="extend all certificates from today; keys stay")
    listing = actions.add_parser("list", help="show the certificates and when they expire; 1 if one has expired")
    for action in (create, client, renew, listing):
        action.add_argument("--directory", type=Path, metavar="PATH", help=f"where they are kept ({default_directory()})")
    for action in (create, client, renew):
        action.add_argument("--days", type=int, default=DAYS, metavar="N", help=f"how long they are valid ({DAYS})")
    for action in (create, client):
        action.add_argument("--replace", action="store_true", help="replace what is there already")


def run(options: argparse.Namespace) -> int:
    """Do what was asked; gives the exit code."""
    path = (options.directory or default_directory()).absolute()
    try:
        directory = CertificateDirectory(path)
        match options.action:
            case "create":
                hosts = options.host or own_hosts()
                clients = options.client or ["client"]
                directory.create(hosts, clients, options.days, replace=options.replace)
                print(f"The engine's certificate is for {', '.join(hosts)}.\n")
                _explain_engine(directory)
                for name in clients:
                    _explain_client(directory, name, hosts[0])
                return 0
            case "client":
                directory.add_client(options.name, options.days, replace=options.replace)
                server = next(found for found in directory.list() if found.kind == "server")
                _explain_client(directory, options.name, next(iter(server.hosts), "HOST"))
                return 0
            case "renew":
                directory.renew(options.days)
                print("The engine takes the new certificate with the next connection. Hand each client its new cert.pem.\n")
        return _list(directory)
    except TlsError as error:
        print(f"kitepy: {error}", file=sys.stderr)
        return 1


def _explain_engine(directory: CertificateDirectory) -> None:
    server = shlex.quote(str(directory.server))
    print(
        "Start the engine with\n"
        "  kitepy-engine -H tcp://0.0.0.0:2376 --tlsverify \\\n"
        f"    --tlscacert {server}/ca.pem --tlscert {server}/cert.pem --tlskey {server}/key.pem"
    )


def _explain_client(directory: CertificateDirectory, name: str, host: str) -> None:
    place = f"[{host}]" if ":" in host else host
    print(
        f"\nFor the client {name}: copy this folder to its machine, by a way that nobody else can read, and set there\n"
        f"  export DOCKER_CERT_PATH={shlex.quote(str(directory.client(name)))}\n"
        f"  export DOCKER_HOST=tcp://{place}:2376 DOCKER_TLS_VERIFY=1"
    )


def _list(directory: CertificateDirectory) -> int:
    now = datetime.datetime.now(datetime.UTC)
    certificates = directory.list()
    for certificate in certificates:
        left = certificate.days_left(now)
        remark = "EXPIRED" if left < 0 else f"{left} days left" + (", renew it soon" if left < _SOON_DAYS else "")
        hosts = f" for {', '.join(certificate.hosts)}" if certificate.hosts else ""
        print(f"{certificate.kind:6} {certificate.name}{hosts}: until {certificate.expires:%Y-%m-%d} ({remark})")
    return 1 if any(certificate.days_left(now) < 0 for certificate in certificates) else 0
