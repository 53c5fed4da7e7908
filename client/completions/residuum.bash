# Completion of residuum for bash: commands, options, states, files, and the ids of jobs as the server lists them.

_residuum_jobs() {
    residuum ls --limit 200 --quiet ${server:+--server "$server"} 2>/dev/null | awk 'NR > 1 {print $1}'
}

_residuum_devices() {
    residuum devices --quiet ${server:+--server "$server"} 2>/dev/null | awk 'NR > 1 && NF == 0 {exit} NR > 1 {print $1}'
}

_residuum_datasets() {
    residuum datasets --quiet ${server:+--server "$server"} 2>/dev/null | awk 'NR > 1 && NF == 0 {exit} NR > 1 {print $1}'
}

_residuum() {
    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' first='' server='' i
    local commands='submit plan ls show watch cancel retry rm log graph report weights export predictions verify receipt epochs devices datasets dataset presets version help'
    local options='--server --json --quiet --help --version'
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --server | -s) server=${COMP_WORDS[++i]} ;;
        --name | --state | --limit | --epoch | --confused | --gpu | --resume | --output | -o | --size | --fit | --channels | --test-fraction | --seed) ((i++)) ;;
        -*) ;;
        *) if [[ -z $command ]]; then command=${COMP_WORDS[i]}; else first=${first:-${COMP_WORDS[i]}}; fi ;;
        esac
    done
    COMPREPLY=()
    case $previous in
    --state)
        mapfile -t COMPREPLY < <(compgen -W 'queued starting running succeeded failed cancelled' -- "$cur")
        return
        ;;
    --output | -o)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --gpu)
        mapfile -t COMPREPLY < <(compgen -W "a100 b200 h100 r3090 r4090 r5090 t4 $(_residuum_devices)" -- "$cur")
        return
        ;;
    --fit)
        mapfile -t COMPREPLY < <(compgen -W 'crop pad stretch' -- "$cur")
        return
        ;;
    --resume)
        mapfile -t COMPREPLY < <(compgen -W "$(_residuum_devices)" -- "$cur")
        return
        ;;
    --server | -s | --name | --limit | --epoch | --confused | --size | --channels | --test-fraction | --seed) return ;;
    esac
    case $command in
    '') options+=" $commands" ;;
    submit) options+=' --watch --dry-run --name' ;;
    plan) options+=' --gpu' ;;
    devices) options+=' --resume' ;;
    ls) options+=' --state --limit' ;;
    graph) options+=' --dot --layers' ;;
    report) options+=' --epoch --confused' ;;
    weights) options+=' --output' ;;
    export) options+=' --onnx --normalize --output' ;;
    dataset) options+=' --name --wait --size --fit --channels --test-fraction --seed --skip-damaged --output' ;;
    predictions) options+=' --limit --output --one-hot' ;;
    esac
    if [[ $cur == -* || -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi
    case $command in
    submit | plan)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    dataset)
        case $first in
        '') mapfile -t COMPREPLY < <(compgen -W 'add ls show sheet rm' -- "$cur") ;;
        add)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            ;;
        show | sheet | rm) mapfile -t COMPREPLY < <(compgen -W "$(_residuum_datasets)" -- "$cur") ;;
        esac
        ;;
    show | watch | cancel | retry | rm | log | graph | report | weights | export | predictions | verify | receipt | epochs)
        mapfile -t COMPREPLY < <(compgen -W "$(_residuum_jobs)" -- "$cur")
        ;;
    help) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur") ;;
    esac
}

complete -F _residuum residuum
