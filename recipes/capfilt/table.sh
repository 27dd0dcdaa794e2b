#!/bin/sh
# The paper's Table 1 at small scale: pre-training on the same noisy pairs as they are, with synthetic
# captions, filtered, and both; and its Table 2, nucleus sampling beside beam search.
#
#   recipes/capfilt/table.sh OUT [SEED]
#
# from the repository's folder, with icons installed (`npm ci`) and the command line built
# (`cargo build -p blip-web --features train`). BLIP names another binary. Everything can be stopped at any
# time and run again: it goes on where it was. JOBS (2) processes share the work of a stage; with PARALLEL=1, what
# does not wait for each other runs at once.
set -eu
out=$1
seed=${2:-1}
blip=${BLIP:-target/debug/blip}
icons=node_modules/@iconify-json
here=recipes/capfilt
web=12000
human=1000

# Scenes of one split and seed, from different places: the web has never seen the human ones.
[ -e "$out/web.done" ] || {
    "$blip" scenes shards --icons $icons --world v0 --seed "$seed" --texts web --count $web --out "$out/web"
    "$blip" scenes shards --icons $icons --world v0 --seed "$seed" --start 1000000 --count $human --out "$out/human"
    touch "$out/web.done"
}

# train STAGE CONFIG NAME INIT DATA
train() {
    [ -e "$out/models/$3/blip.json" ] || "$blip" train "$1" --config $here/"$2".toml --init "$4" \
        --set "data.sources=[{kind='shards',paths=['$5']}]" --set "recipe.seed=$seed" \
        --run "$out/runs/$3" --out "$out/models/$3" --resume --dtype f16
}

# Processes share the work of a stage.
capfilt() {
    others=
    for _ in $(seq 2 "${JOBS:-2}"); do
        "$blip" capfilt "$@" --quiet &
        others="$others $!"
    done
    "$blip" capfilt "$@" --quiet
    for other in $others; do wait "$other"; done
}

# Begins what the next `joined` waits for.
begun=
begin() {
    if [ "${PARALLEL:-0}" = 1 ]; then
        "$@" &
        begun="$begun $!"
    else
        "$@"
    fi
}
joined() {
    for one in $begun; do wait "$one"; done
    begun=
}

assemble() {
    "$blip" capfilt assemble --shards "$out/web" --human "$out/human" --out "$out/sets/$@" --quiet
}

measure() {
    [ -e "$out/metrics/$1.json" ] || {
        mkdir -p "$out/metrics"
        "$blip" eval --model "$out/models/$1" --scenes $icons --world v0 --limit 500 --quiet \
            --measures caption,retrieval,negatives --rerank 16 --among 100 --same-words --json "$out/metrics/$1.part"
        mv "$out/metrics/$1.part" "$out/metrics/$1.json"
    }
}

run() {
    train pretrain pretraining "$1" tests/fixtures/models/captioner "$out/sets/$1"
    measure "$1"
}

assemble none --mode none
run none

begin train caption captioner captioner "$out/models/none" "$out/human"
begin train retrieval filter filter "$out/models/none" "$out/human"
joined

# As long as captions of scenes are, without the penalty for words that are said twice: "a red car left of
# a blue car".
lengths="--min-length 3 --max-length 30 --repetition-penalty 1"
capfilt caption --model "$out/models/captioner" --shards "$out/web" --top-k 0 $lengths --seed "$seed" \
    --out "$out/captions"
capfilt filter --model "$out/models/filter" --shards "$out/web" --captions "$out/captions" --out "$out/decisions"

assemble captioner-only --mode captioner --captions "$out/captions"
assemble filter-only --mode filter --decisions "$out/decisions"
assemble both --mode both --decisions "$out/decisions"
begin run captioner-only
begin run filter-only
begin run both

capfilt caption --model "$out/models/captioner" --shards "$out/web" --decoding beam $lengths --out "$out/captions-beam"
capfilt filter --model "$out/models/filter" --shards "$out/web" --captions "$out/captions-beam" \
    --out "$out/decisions-beam"
assemble both-beam --mode both --decisions "$out/decisions-beam"
begin run both-beam
joined

for stage in captions decisions captions-beam decisions-beam; do
    "$blip" capfilt report "$out/$stage" --json > "$out/metrics/$stage.json"
done
