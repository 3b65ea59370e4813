#!/bin/sh
# check_shell.sh: shellcheck over every shell script of the project, found by name or first line.
cd "$(dirname -- "$0")/.." || exit 1

find . \( -path ./build -o -path ./.git -o -name '.run*' -o -name node_modules \) -prune -o -type f -print | sort |
    while IFS= read -r file; do
        case ${file##*/} in
            *.sh) printf '%s\0' "$file" ;;
            *.*) ;;
            *) head -n 1 -- "$file" | grep -q '^#!.*sh$' && printf '%s\0' "$file" ;;
        esac
    done | xargs -0 shellcheck -x
