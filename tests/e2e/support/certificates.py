"""Certificates that no good authority signs, for those who must not be taken in by them."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.demo.certificates import Authority, Credential

__all__ = ["CarelessAuthority"]


class CarelessAuthority(Authority):
    """Signs any name."""

    def issue_odd(self, name: str, uris: Sequence[str], hosts: Sequence[str] = ()) -> Credential:
        """Sign a certificate with these URI and DNS names, or with no alternative name at all.

        Args:
            name: The subject's common name; the files are called after its last part.
            uris: URI SANs, in this order.
            hosts: DNS SANs, after them.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([_common_name(name)]), key)
        if uris or hosts:
            names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
            names += [x509.DNSName(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        stem = f"odd-{name.rpartition('/')[2]}"
        credential = Credential(self._folder / f"{stem}.pem", self._folder / f"{stem}-key.pem")
        credential.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        credential.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return credential


def _common_name(name: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(x509.NameOID.COMMON_NAME, name)
