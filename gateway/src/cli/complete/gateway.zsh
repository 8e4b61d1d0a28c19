#compdef gateway
# Completion of gateway(1) for zsh. The candidates come from the program itself.

_gateway() {
    local -a lines plain open
    local entry text
    lines=("${(@f)$("${(Q)words[1]}" complete words "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    case $lines[1] in
    files)
        compset -P '*='
        _files
        ;;
    folders)
        compset -P '*='
        _files -/
        ;;
    candidates)
        for entry in "${(@)lines[3,-1]}"; do
            text=${entry%%$'\t'*}
            entry="${text//:/\\:}:${entry#*$'\t'}"
            if [[ $text == *= ]]; then
                open+=("$entry")
            else
                plain+=("$entry")
            fi
        done
        if (($#plain)); then
            _describe 'word' plain
        fi
        if (($#open)); then
            _describe 'property' open -S ''
        fi
        ;;
    esac
}

_gateway "$@"
