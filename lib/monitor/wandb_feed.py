"""Hands a run to Weights & Biases' Python package: lib/monitor/wandb.ts starts this and writes a JSON object a line to its
stdin. The first opens the run, then come numbers and texts, and "finish"; an end of stdin without it means that the
trainer was killed. With --check it only says, as JSON on stdout, whether wandb can be used.
"""

import html
import json
import os
import signal
import sys


def check():
    try:
        import wandb
    except ImportError:
        return {"problem": "missing"}
    try:
        if wandb.setup().settings.mode not in ("offline", "dryrun", "disabled"):
            wandb.login()  # raises where it would have to ask: stdin is no terminal
    except Exception as error:
        return {"problem": "login", "message": " ".join(str(error).split())}
    return {}


def main():
    import wandb

    first = json.loads(sys.stdin.readline())
    run = wandb.init(**first, resume="allow", allow_val_change=True, settings=wandb.Settings(console="off"))
    # wandb's own steps can't go back, as a run does that is resumed or rolled back: "iter" is the axis instead
    run.define_metric("iter")
    run.define_metric("*", step_metric="iter")
    exit_code = 255  # to wandb: killed
    for line in sys.stdin:
        if not line.endswith("\n"):
            continue  # cut by a kill
        event = json.loads(line)  # NaN and Infinity are words that Python's json knows
        if "finish" in event:
            exit_code = event["finish"]
            break
        for name, text in event.pop("texts", {}).items():
            event[name] = wandb.Html(f"<pre>{html.escape(text)}</pre>", inject=False)
        run.log(event)
    else:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody reads what wandb prints now
    run.finish(exit_code=exit_code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, which then ends stdin
    if sys.argv[1:] == ["--check"]:
        print(json.dumps(check()))
    else:
        main()
