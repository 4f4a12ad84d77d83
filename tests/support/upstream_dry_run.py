"""Print what an unpatched train.py would train, as JSON. Run: python upstream_dry_run.py TREE DATA CASES.json

CASES: {name: command line without --outdir and --data}. Prints {name: {"desc": run folder's name, "options": ...}}.
"""

import contextlib
import io
import json
import re
import sys
import types

def dry_run(command, data, arguments):
    """Run a train.py command line and read what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        command.main(['--outdir=nowhere', f'--data={data}', '--dry-run', *arguments], standalone_mode=False)
    text = out.getvalue()
    options = json.loads(re.search(r'^\{.*?^\}', text, flags=re.M | re.S).group())
    desc = re.search(r'Output directory: +nowhere/00000-(.*)', text).group(1)
    options.pop('run_dir')
    options['training_set_kwargs']['path'] = 'DATA'
    return dict(desc=desc, options=options)

def main(tree, data, cases):
    sys.path.insert(0, tree)
    sys.modules['tensorboard'] = types.ModuleType('tensorboard') # Not needed to print options, and slow to import.
    import train
    with open(cases, encoding='utf-8') as f:
        print(json.dumps({name: dry_run(train.main, data, arguments) for name, arguments in json.load(f).items()}))

if __name__ == '__main__':
    main(*sys.argv[1:])
