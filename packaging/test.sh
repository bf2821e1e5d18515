#!/bin/sh
# The checks of `make test`: lint, types, layers, then pytest. Arguments go to pytest; --lint-only stops before it.
#
# Tests that touch the kernel need root. An ordinary user's are run through sudo, in a second pytest after the others. With root the
# suite has a network of its own: what a killed run left on the machine would spoil it otherwise.
# shellcheck disable=SC2086  # $pytest and $as_root are commands with their arguments, $both is a list
set -eu

cd "$(dirname "$0")/.."
bin=.venv/bin

"$bin/ruff" check kitepy tests
"$bin/ruff" format --check kitepy tests
"$bin/mypy"
"$bin/lint-imports" --no-cache
[ "${1:-}" != --lint-only ] || exit 0

# Two workers: more would fight for the kernel's locks on a small machine. One file stays on one worker, since its
# tests share an engine.
pytest="$bin/python -m pytest -n ${KITEPY_TEST_WORKERS:-2} --dist loadfile"

# The tests of the API and of its most used clients run twice: against an engine with root, and against one of an ordinary user
# that the tests bring along. Left out there is what only the services decide, or the server in front, in the same words for both.
both="tests/api tests/clients/test_docker_py_surface.py tests/clients/test_compose.py"
for same in contract edge test_events.py test_registry_login.py networks/test_network_resource.py \
    volumes/test_volumes_resource.py containers/test_attach_websocket.py containers/test_container_health.py \
    containers/test_container_kill.py containers/test_container_list.py containers/test_container_prune.py \
    containers/test_container_remove.py containers/test_container_rename.py containers/test_container_restarts.py \
    containers/test_container_stop.py containers/test_container_update.py containers/test_container_wait.py \
    containers/test_create_refusals.py containers/test_forged_lines.py attacks/test_registry_attacks.py \
    images/test_image_rules.py images/test_registries.py images/test_registry_credentials.py images/test_pull_faults.py \
    images/test_app_registries.py images/test_images_through_the_app.py; do
    both="$both --ignore tests/api/$same"
done
status=0
if [ "$(id -u)" -eq 0 ]; then
    pytest="packaging/private-network.sh $pytest"
    $pytest "$@" || status=$?
    [ $# -ne 0 ] || KITEPY_TEST_MODE=rootless $pytest $both || status=$?
    exit "$status"
fi

$pytest -m 'not root' "$@" || status=$?
if command -v sudo >/dev/null 2>&1; then
    as_root="sudo env CI=${CI:-} PYTHONDONTWRITEBYTECODE=1 KITEPY_CLIENTS=$(packaging/clients.sh --where)"
    $as_root packaging/private-network.sh $pytest -m root "$@" || status=$?
    [ $# -ne 0 ] || $as_root KITEPY_TEST_MODE=rootless packaging/private-network.sh $pytest -m root $both || status=$?
else
    echo "kitepy: the tests that need root were NOT run: there is no sudo" >&2
    status=1
fi
exit "$status"
