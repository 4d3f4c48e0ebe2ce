# sh follow.sh ADDRESS TOKEN [OPTION OF CURL ...]: prints whole messages (event, tab, id, tab, data) until it is over.
# What curl's users write around it: a loop with the last id, to which only a whole message counts.
address=$1 token=$2 last='' tab=$(printf '\t')
shift 2
exec 3>&1
while [ "$last" != over ]; do
    last=$(curl -sN -w 'status: %{http_code}\n' -H "Authorization: Bearer $token" -H 'Accept: text/event-stream' \
        ${last:+-H "Last-Event-ID: $last"} "$@" "$address" | {
        id='' event='' data=''
        while IFS= read -r line; do
            case $line in
            "id: "*) id=${line#id: } ;;
            "event: "*) event=${line#event: } ;;
            "data: "*) data=${line#data: } ;;
            "status: 204") last=over ;;
            "")
                last=${id:-$last}
                printf '%s\n' "$event$tab$id$tab$data" >&3
                [ "$event" != end ] || last=over
                id='' event='' data=''
                ;;
            esac
        done
        echo "$last"
    })
    [ "$last" = over ] || sleep 0.05
done
