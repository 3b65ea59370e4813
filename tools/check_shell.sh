#!/bin/sh
# check_shell.sh: shellcheck over every shell script that git knows or will know, found by name or first line.
cd "$(dirname -- "$0")/.." || exit 1

git ls-files --cached --others --exclude-standard | while IFS= read -r file; do
    [ -f "$file" ] || continue
    case $file in
        *.sh) printf '%s\0' "$file" ;;
        *.*) ;;
        *) head -n 1 -- "$file" | grep -q '^#!.*sh$' && printf '%s\0' "$file" ;;
    esac
done | xargs -0 shellcheck -x
