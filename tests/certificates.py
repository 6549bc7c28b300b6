"""Certificates for tests of TLS, made by openssl: an authority, and what it signs for 127.0.0.1."""

import subprocess


class Authority:
    """Signs certificates into a folder of its own; nobody trusts it but who is given `ca`."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ca, self._key = folder, folder / "ca.pem", folder / "ca.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2", "-subj", f"/CN={folder.name}",
            "-keyout", self._key, "-out", self.ca,
        )  # fmt: skip

    def sign(self, name, days=2):
        """A certificate for 127.0.0.1 and its key, which we alone may read; below 0 days it is over."""
        key, asked, signed = (self.folder / f"{name}.{ending}" for ending in ("key", "asked", "pem"))
        names = self.folder / "names"
        names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        _openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-noenc",
            "-subj",
            f"/CN={name}",
            "-keyout",
            key,
            "-out",
            asked,
        )
        _openssl(
            "x509", "-req", "-in", asked, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial",
            "-out", signed, "-days", days, "-extfile", names,
        )  # fmt: skip
        key.chmod(0o600)
        return signed, key


def _openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
