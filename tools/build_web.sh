#!/bin/sh
# build_web.sh BUILD: the pages as the gateway serves them, into BUILD/web.
#
# There is no bundler: browsers load the modules of services/gateway/web/app as they are. Everything that a page loads goes
# into one folder, assets/v-<hash of all of it>/, so that browsers may keep it for good; in there, a package is a module
# beside the others (`from "preact"` becomes `from "./preact.js"`). Beside each file lies its compressed form.
#
# Packages come from npm by services/gateway/web/package-lock.json, once for each state of that file, and their modules
# are kept in BUILD/web-packages. When npm's registry cannot be reached, those of the previous build stay in use; without
# a previous build this fails, and says so. BUILD/web/.complete is written only when everything is as the lock file says.
# shellcheck shell=dash
set -eu
cd "$(dirname -- "$0")/.."

build=$1
source=services/gateway/web
kept=$build/web-packages
state=$(cksum <$source/package-lock.json)
fail() { echo "build_web: $*" >&2; exit 1; }

# rewrite FILE...: prints modules in which packages are named by their files, and no source maps.
rewrite() {
    sed -e 's#\(from *\)\(["'\'']\)preact/hooks\2#\1\2./hooks.js\2#g' \
        -e 's#\(from *\)\(["'\'']\)@preact/\([a-z-]*\)\2#\1\2./\3.js\2#g' \
        -e 's#\(from *\)\(["'\'']\)\(preact\|htm\)\2#\1\2./\3.js\2#g' \
        -e 's#\(import(\)\(["'\'']\)uplot\2#\1\2./uplot.js\2#g' \
        -e 's#//\# sourceMappingURL=.*##' "$@"
}

# --- packages ----------------------------------------------------------------------------------------------------
copy_packages() {
    packages=$source/node_modules
    rm -rf "$kept.new"
    mkdir -p "$kept.new"
    rewrite $packages/preact/dist/preact.mjs >"$kept.new/preact.js"
    rewrite $packages/preact/hooks/dist/hooks.mjs >"$kept.new/hooks.js"
    rewrite $packages/htm/dist/htm.mjs >"$kept.new/htm.js"
    rewrite $packages/@preact/signals-core/dist/signals-core.mjs >"$kept.new/signals-core.js"
    rewrite $packages/@preact/signals/dist/signals.mjs >"$kept.new/signals.js"
    { cat $packages/uplot/dist/uPlot.iife.min.js; echo 'export default uPlot;'; } >"$kept.new/uplot.js"
    cp $packages/uplot/dist/uPlot.min.css "$kept.new/uplot.css"
    echo "$state" >"$kept.new/state"
    rm -rf "$kept"
    mv "$kept.new" "$kept"
}

# install LOG: what the lock file names, unless it is there.
install() {
    if [ $source/node_modules/.package-lock.json -nt $source/package-lock.json ]; then return 0; fi
    command -v npm >"$1" || { echo "there is no npm: ./bore run installs it" >"$1"; return 1; }
    (cd $source && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error --prefer-offline \
        --fetch-retries=1 --fetch-retry-mintimeout=500 --fetch-retry-maxtimeout=2000 --fetch-timeout=20000) >"$1" 2>&1
}

# reason LOG: why the packages are not there, in one line.
reason() {
    if grep -qE 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTCACHED|ERR_SOCKET' "$1"; then
        echo "npm's registry ($(npm config get registry 2>/dev/null)) cannot be reached"
    else
        echo "npm could not install the dashboard's packages ($(grep -v '^npm warn' "$1" | head -n 1))"
    fi
}

is_complete=yes
if [ ! -e "$kept/state" ] || [ "$(cat "$kept/state")" != "$state" ]; then
    mkdir -p "$build"
    log=$build/web-packages.log
    if install "$log"; then
        copy_packages
    elif [ -e "$kept/state" ]; then
        is_complete=
        echo "build_web: $(reason "$log"): the dashboard keeps the packages of the previous build" >&2
    else
        fail "$(reason "$log"), and there is no previous build of the dashboard to keep"
    fi
fi

# --- pages -------------------------------------------------------------------------------------------------------
new=$build/web.new
rm -rf "$new"
mkdir -p "$new/all"
cp $source/assets/* "$new/all/"
cp "$kept"/*.js "$new/all/"
for file in "$source"/app/*.js; do rewrite "$file" >"$new/all/${file##*/}"; done
cat $source/app/*.css "$kept/uplot.css" >"$new/all/app.css"
if grep -nE "(from|await import\() *[\"'][^.\"']" "$new"/all/*.js; then fail "a module names a package that this script does not know"; fi

assets=assets/v-$(cat "$new"/all/* | sha256sum | cut -c 1-16)
mkdir "$new/assets"
mv "$new/all" "$new/$assets"

# The modules that main.js needs before anything is seen, so that the browser asks for all of them at once.
first=main.js
found=
while [ "$found" != "$first" ]; do
    found=$first
    # shellcheck disable=SC2086  # a list of names
    first=$(cd "$new/$assets" && { printf '%s\n' $found; sed -n 's#.*from *["'\'']\./\([a-z_-]*\.js\)["'\''].*#\1#p' $found; } | sort -u | tr '\n' ' ')
    first=${first% }
done
preload=$(for name in $first; do printf '  <link rel="modulepreload" href="/%s/%s">\\n' "$assets" "$name"; done)
for page in "$source"/*.html; do
    sed -e "s#\"/assets/#\"/$assets/#g" -e "s#^ *<!-- modules -->#${preload%??}#" "$page" >"$new/${page##*/}"
done

find "$new" -type f ! -name '*.png' | while read -r file; do gzip -9 -n -c "$file" >"$file.gz"; done
[ -z "$is_complete" ] || : >"$new/.complete"
rm -rf "$build/web"
mv "$new" "$build/web"
