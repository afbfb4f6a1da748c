"""Holds the signatures of verify.py against the test vectors of RFC 8032, section 7.1, and what it says when it cannot tell.

Run it by: python3 -m unittest
"""

import os
import subprocess
import sys
import tempfile
import unittest

import verify

FOLDER = os.path.dirname(os.path.abspath(__file__))

VECTORS = (  # public key, message, signature
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
)


class Ed25519(unittest.TestCase):
    def test_published(self):
        for public, message, signature in VECTORS:
            public, message, signature = map(bytes.fromhex, (public, message, signature))
            self.assertTrue(verify.ed25519(public, message, signature))
            self.assertFalse(verify.ed25519(public, message + b"x", signature))
            self.assertFalse(verify.ed25519(public, message, signature[:-1]))
            for at in range(0, 64, 9):
                self.assertFalse(verify.ed25519(public, message, signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1:]))

    def test_one_form(self):
        """The same signature with the order added to its second half is refused."""
        public, message, signature = map(bytes.fromhex, VECTORS[1])
        s = int.from_bytes(signature[32:], "little") + verify.L
        self.assertFalse(verify.ed25519(public, message, signature[:32] + s.to_bytes(32, "little")))

    def test_no_point(self):
        self.assertIsNone(verify.point(verify.P, 0))
        self.assertIsNone(verify.point(1, 1))  # x is 0, which is not odd
        self.assertIsNone(verify.point(2, 0))


class Score(unittest.TestCase):
    def test_decimals(self):
        for n, digits, text in ((0, 12, "0"), (1, 12, "0.000000000001"), (10**12, 12, "1"), (1500, 3, "1.5"), (100, 3, "0.1")):
            self.assertEqual(verify.shortest(n, digits), text)


class CannotTell(unittest.TestCase):
    """What is told by exit code 2, in one line."""

    SECRET = "PRIVATE+KEY+ledger.example.org+4a0c1d4f+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"

    def start(self, *arguments, **options):
        return subprocess.run([sys.executable, os.path.join(FOLDER, "verify.py"), *arguments], text=True, timeout=60, check=False, **options)

    def run_verify(self, *arguments, **options):
        done = self.start(*arguments, stderr=subprocess.PIPE, **options)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def test_secret_key(self):
        """A secret key is not shown, whole or in part, wherever it stands."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "key")
            for text in (self.SECRET, "the key:\n" + self.SECRET, self.SECRET[:-5]):
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                for key in (path, text):
                    said = self.run_verify("nowhere", "--key", key)
                    self.assertIn("is a secret key", said)
                    self.assertNotIn("AYEK", said)

    def test_no_key(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "key")
            with open(path, "w", encoding="utf-8") as file:
                file.write("x" * 5000)
            self.assertIn("bytes: it is no file of a key", self.run_verify("nowhere", "--key", path))
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.SECRET[12:])
            said = self.run_verify("nowhere", "--key", path)
            self.assertIn("is not a public key", said)
            self.assertNotIn("AYEK", said)

    def test_nobody_reads(self):
        """Exit code 1 would say that the proof does not hold."""
        reads, writes = os.pipe()
        os.close(reads)
        with os.fdopen(writes, "w") as nobody:
            self.assertIn("the answer cannot be written", self.run_verify("nowhere", "--key", "nowhere", "--json", stdout=nobody))

    @unittest.skipUnless(os.name == "posix", "closes a descriptor of the process")
    def test_closed(self):
        self.assertIn("standard output is closed", self.run_verify("nowhere", "--key", "nowhere", preexec_fn=lambda: os.close(1)))
        for streams in ((2,), (1, 2)):
            done = self.start("nowhere", "--key", "nowhere", stdout=subprocess.PIPE, preexec_fn=lambda: [os.close(s) for s in streams])
            self.assertEqual((done.returncode, done.stdout), (2, ""))

    def test_errors_cannot_be_written(self):
        with open(os.devnull, encoding="utf-8") as only_read:
            self.assertEqual(self.start("nowhere", "--key", "nowhere", stderr=only_read).returncode, 2)

    def test_other_failure(self):
        """A failure that nobody thought of says nothing about the proof."""
        program = "import sys, verify; verify.run = lambda _: 1 // 0; verify.main()"
        done = subprocess.run([sys.executable, "-c", program], cwd=FOLDER, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
        self.assertIn("could not tell: ZeroDivisionError", done.stderr)


if __name__ == "__main__":
    unittest.main()
