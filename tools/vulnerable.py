"""The vulnerabilities in a report of pip-audit, a line each."""

import json
import sys
from pathlib import Path

for package in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["dependencies"]:
    for found in package.get("vulns", ()):
        fixed = ", ".join(found["fix_versions"]) or "no version yet"
        print(f"  {package['name']} {package['version']}: {found['id']}, fixed in {fixed}")
