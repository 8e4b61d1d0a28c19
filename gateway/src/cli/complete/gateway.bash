# Completion of gateway(1) for bash. The candidates come from the program itself.

_gateway() {
    local -a lines
    local typed=$2 word prefix entry
    COMPREPLY=()
    mapfile -t lines < <("${1/#\~\//$HOME/}" complete line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    case ${lines[0]-} in
    files) compopt -o default 2>/dev/null ;;
    folders) compopt -o dirnames 2>/dev/null ;;
    candidates)
        # Readline replaces only what stands behind its last word break, which '=' is.
        [[ $typed == [=:] ]] && typed=
        word=${lines[1]#word }
        [[ $word == *"$typed" ]] || return 0
        prefix=${word%"$typed"}
        for entry in "${lines[@]:2}"; do
            entry=${entry%%$'\t'*}
            COMPREPLY+=("${entry#"$prefix"}")
        done
        if ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *= ]]; then
            compopt -o nospace 2>/dev/null
        fi
        ;;
    esac
    return 0
}

complete -F _gateway gateway
