#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of the rule of tools/dev/check_layers.py that text of a file is quoted in messages.

    test_check_layers.py SOURCE_ROOT

Ends with a line `N passed, N failed, 0 skipped`.
"""

import importlib.util
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()

sys.path.insert(0, str(ROOT / "tools/dev"))
spec = importlib.util.spec_from_file_location("check_layers", ROOT / "tools/dev/check_layers.py")
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)

QUOTED = [
    'fm_fail(FM_FORMAT, "tensor \'%s\'", FM_QUOTE(name.data, name.bytes));',
    'fm_fail(FM_FORMAT, "%s: tensor \'%s\' is %s", fm_file_path(file), FM_QUOTE_TEXT(name), fm_type_info(t->type)->name);',
    'fm_fail(FM_FORMAT, "%llu of %s", count, t->type_name);',
    'fm_fail(FM_FORMAT, "%s: no text, \'%%s\' %s", path, strerror(errno));',
    'fm_log(FM_LOG_WARN, "%s is %s", key, n > 0 ? "long" : known ? "known" : "short");',
    'fm_fail(FM_FORMAT, "%s", FM_QUOTE_Z(text != NULL ? text : ""));',
    'snprintf(path, sizeof(path), "%s/%.*s", folder, (int)name.bytes, name.data);',
    '// fm_fail(FM_FORMAT, "%s", t->name);',
]
BARE = [
    'fm_fail(FM_FORMAT, "tensor \'%s\'", tensor->name);',
    'fm_fail(FM_FORMAT, "tensor \'%.64s\'", name);',
    'fm_fail(FM_FORMAT, "%.*s", (int)text.bytes, text.data);',
    'fm_fail(FM_FORMAT, "%s: %u is both \'%s\' and \'%s\'", path, id, FM_QUOTE_Z(text), text);',
    'fm_fail_prefix(FM_FORMAT, "%s", item->string);',
    'fm_log(FM_LOG_WARN, "%s: %s",\n       path,\n       item->valuestring);',
    'problem(m, "tensor \'%s\' is missing", t->name);',
    'fm_fail(FM_FORMAT, "layer is \'%s\'", cJSON_IsString(layer) ? layer->valuestring : "");',
    'fm_fail(FM_FORMAT, "tokens[%u] is " KEY " \'%s\'", id, meta->texts[id].data);',
    'snprintf(line, sizeof(line), "tensor %s", t->name);',
    'fm_append(known, sizeof(known), " %s", t->name);',
]


class Quoting(unittest.TestCase):
    def breaches(self, line, file="src/format/x.c"):
        with tempfile.TemporaryDirectory(prefix="fulmen-style-") as folder:
            path = pathlib.Path(folder).resolve() / file
            path.parent.mkdir(parents=True)
            path.write_text("// SPDX-License-Identifier: MIT\nvoid f(void)\n{\n    " + line + "\n}\n", encoding="utf-8")
            checker = check.Checker(pathlib.Path(folder).resolve())
            checker.check_source(path)
            return checker.breaches

    def test_quoted_text_passes(self):
        for line in QUOTED:
            with self.subTest(line=line):
                self.assertEqual(self.breaches(line), [])

    def test_bare_text_is_refused(self):
        for line in BARE:
            for file in ("src/format/x.c", "src/text/x.c", "src/convert/x.c", "src/run/x.c", "models/x.c"):
                with self.subTest(line=line, file=file):
                    found = self.breaches(line, file)
                    self.assertEqual(len(found), 1, found)
                    self.assertTrue(found[0].startswith(file + ":4: "), found)

    def test_other_folders_are_not_looked_at(self):
        self.assertEqual(self.breaches(BARE[0], "src/plan/x.c"), [])


if __name__ == "__main__":
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=1).run(unittest.defaultTestLoader.loadTestsFromTestCase(Quoting))
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed else 0)
