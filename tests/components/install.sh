#!/usr/bin/env bash
# Installs what building and testing need, and is quick when everything is there:
#   install.sh [build|tests|all]   Debian packages (as root or by sudo) and, for tests, a Python venv; default all
#   install.sh --dry-run [PART]    says what it would install
#   install.sh --path              prints where the venv is
#   install.sh --freeze            pins requirements.in anew into requirements.txt
# PostgreSQL's regression SQL comes to $PORTCULLIS_COMPONENTS/postgres-regress.
# The venv is $PORTCULLIS_COMPONENTS/venv, else $CARGO_TARGET_DIR/components/venv, else target/components/venv.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
components=${PORTCULLIS_COMPONENTS:-${CARGO_TARGET_DIR:-$root/target}/components}
venv=$components/venv
stamp=$venv/.installed
# Debian's own: a Python from elsewhere may lack venv or have another ABI than the pinned wheels.
python=${PORTCULLIS_PYTHON:-/usr/bin/python3}

say() { printf 'components: %s\n' "$*"; }
fail() { printf 'components: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "needs root or sudo for: $*"
    fi
}

# Prints the packages of part $1 that are not installed.
missing_packages() {
    local part package rest
    while read -r part package rest; do
        case $part in '' | '#'*) continue ;; esac
        if [ "$1" != all ] && [ "$1" != "$part" ]; then continue; fi
        if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" != installed ]; then
            printf '%s\n' "$package"
        fi
    done <"$here/packages.txt"
}

install_packages() {
    local missing
    command -v dpkg-query >/dev/null || fail "this is not Debian: install the packages of tests/components/packages.txt by hand"
    mapfile -t missing < <(missing_packages "$1")
    if [ "${#missing[@]}" -eq 0 ]; then return; fi
    say "apt-get install ${missing[*]}"
    if [ -n "$dry_run" ]; then
        apt-get install --dry-run --no-install-recommends "${missing[@]}"
        return
    fi
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get -o DPkg::Lock::Timeout=300 -q update
    without_a_cluster apt-get -o DPkg::Lock::Timeout=300 -q install -y --no-install-recommends "${missing[@]}"
}

# Runs $@ as root. Debian's PostgreSQL makes and starts a cluster on port 5432 when it is installed for the first time, unless
# told otherwise: the tests need only the programs. A cluster that is there already stays as it is.
without_a_cluster() {
    local settings=/etc/postgresql-common/createcluster.d status=0
    as_root mkdir -p "$settings"
    echo 'create_main_cluster = false' | as_root tee "$settings/portcullis.conf" >/dev/null
    as_root "$@" || status=$?
    as_root rm -f "$settings/portcullis.conf"
    return "$status"
}

wanted_stamp() {
    { "$python" --version && cat "$here/requirements.txt"; } | sha256sum | cut -d' ' -f1
}

install_venv() {
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted_stamp)" ]; then return; fi
    say "pip install -r tests/components/requirements.txt into $venv"
    if [ -n "$dry_run" ]; then return; fi
    # The stamp comes last, so what an interrupted run left is made anew.
    rm -rf "$venv"
    "$python" -m venv "$venv"
    # Wheels only: nothing is compiled, and no package runs a setup script.
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --quiet --retries 10 \
        --only-binary :all: --no-deps -r "$here/requirements.txt"
    "$venv/bin/python" -m pip check --disable-pip-version-check
    wanted_stamp >"$stamp"
}

# PostgreSQL's own regression SQL, from Debian's source package: the only part of it that no binary package has.
install_regression() {
    local into=$components/postgres-regress scratch version
    if [ -f "$into/.installed" ]; then return; fi
    say "apt-get source postgresql-15 for its regression SQL into $into"
    if [ -n "$dry_run" ]; then return; fi
    scratch=$(mktemp -d)
    mkdir -p "$scratch/parts" "$scratch/lists/partial" "$scratch/cache/archives/partial"
    # The same places that packages come from, asked for sources; neither the machine's lists nor its settings change.
    if [ -f /etc/apt/sources.list.d/debian.sources ]; then
        sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >"$scratch/parts/debian.sources"
    else
        sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >"$scratch/parts/debian.list"
    fi
    local options=(-q -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$scratch/parts"
        -o "Dir::State::Lists=$scratch/lists" -o "Dir::Cache=$scratch/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update
    # The newest that can be had: a mirror may list a security update before it has it.
    while read -r version; do
        if (cd "$scratch" && apt-get "${options[@]}" source --download-only "postgresql-15=$version"); then break; fi
        rm -f "$scratch"/postgresql-15_*
    done < <(apt-cache "${options[@]:1}" madison postgresql-15 | awk -F' *[|] *' '/Sources/ { print $2 }')
    rm -rf "$into"
    # Python unpacks bzip2 on machines without the program.
    "$python" - "$scratch" "$into" <<'PYTHON'
import glob, os, sys, tarfile
source, into = sys.argv[1:]
(archive,) = glob.glob(os.path.join(source, "postgresql-15_*.orig.tar.*"))
part = "/src/test/regress/"
with tarfile.open(archive) as tar:
    for member in tar:
        name = member.name.partition(part)[2]
        if member.isreg() and (name == "parallel_schedule" or name.startswith(("sql/", "data/"))):
            member.name = name
            tar.extract(member, into)
PYTHON
    rm -rf "$scratch"
    touch "$into/.installed"
}

freeze() {
    local scratch
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064  # the folder of now
    trap "rm -rf '$scratch'" EXIT
    "$python" -m venv "$scratch/venv"
    "$scratch/venv/bin/python" -m pip install --disable-pip-version-check --quiet --only-binary :all: -r "$here/requirements.in"
    {
        echo "# Made by install.sh --freeze from requirements.in."
        "$scratch/venv/bin/python" -m pip freeze --disable-pip-version-check
    } >"$here/requirements.txt"
}

dry_run=
if [ "${1:-}" = --dry-run ]; then
    dry_run=yes
    shift
fi
case ${1:-all} in
--path) echo "$venv" ;;
--freeze) freeze ;;
build) install_packages build ;;
tests | all)
    install_packages all
    if [ -n "$dry_run" ]; then
        install_venv
        install_regression
        exit
    fi
    mkdir -p "$components"
    # Two runs at once (an editor's and a person's) must not build one venv.
    exec 9>"$components/.lock"
    flock 9
    install_venv
    install_regression
    ;;
*) fail "unknown part \`$1\`: build, tests or all" ;;
esac
