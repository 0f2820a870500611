#!/bin/bash
# One hospital of `node.sh demo fed`: draws its patients as DICOM series and prepares them for training, as its node
# would have done with studies that were finished. Called by fed.sh.
# usage: fed_hospital.sh FOLDER BIN NAME STUDIES PROFILE FIRST_SEED HEAD...    (HEAD: labelled by its people)
set -euo pipefail
folder=$1 bin=$2 name=$3 studies=$4 profile=$5 seed=$6
shift 6
tools=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
child=''
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 143' TERM INT
run() {  # so that a signal ends the program at hand too
    "$@" &
    child=$!
    wait "$child"
    child=''
}
prepared=$folder/fedclient/studies/demo-root
run "$bin/cardionode" phantom --seed "$seed" --count "$studies" --profile "$profile" --contrast arterial --size 64 \
    --spacing 2 --format dicom --out "$folder/archive"
run "$tools/fed_setup.py" labels "$folder/archive" "$@"
run "$tools/fed_setup.py" patients "$folder/archive" "$name" "$seed"
run "$bin/cardionode" train prepare --recipe "$tools/fed-recipe.yaml" --half --out "$prepared" "$folder/archive"/*
run "$tools/fed_setup.py" notes "$prepared"
