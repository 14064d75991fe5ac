#!/bin/bash
# Completion for fovea-bench, read by bash, not run. The first line is for shellcheck.

_fovea_bench() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local options='--quick --full --device --host --output --filter --threads --repetitions --help'
  COMPREPLY=()
  case $previous in
    --device)
      mapfile -t COMPREPLY < <(compgen -W 'cpu cuda' -- "$current")
      return ;;
    --filter | --threads | --repetitions | -f | -t | -r) return ;;
    --output | -o | table | summary | page | plot)
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return ;;
  esac
  case $current in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current") ;;
    *) if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W 'list table summary page plot' -- "$current")
      else
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
      fi ;;
  esac
}

complete -F _fovea_bench fovea-bench
