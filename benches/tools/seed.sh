#!/bin/bash
# The deploy script this project replaces (seeds/dangdangwalk-ec2-blue-green.txt), for the table of `load`.
# As it was: the waits, the two colours in one upstream, the reload, the stop. Only what this machine does not have is
# left out: the ECR login, the pull, fluentd, `sudo`, and the prune (which would remove the images of everybody else).
# Arguments in place of what was fixed: TAG IMAGE NGINX_CONF BLUE_PORT GREEN_PORT PREFIX
TAG=$1 IMAGE=$2 CONF=$3 BLUE=$4 GREEN=$5 PREFIX=$6

if [ -z "$TAG" ]; then
  echo "ERROR: Image tag argument is missing."
  exit 1
fi

deploy() { # NEW NEW_PORT OLD
  docker stop "$PREFIX-$1" && docker rm "$PREFIX-$1"
  docker run -d --name "$PREFIX-$1" --restart always -p "127.0.0.1:$2:8080" "$IMAGE:$TAG"
  while [ 1 = 1 ]; do
    sleep 3
    REQUEST=$(curl -s "http://127.0.0.1:$2")
    if [ -n "$REQUEST" ]; then
      break
    fi
  done
  nginx -c "$CONF" -s reload
  docker stop "$PREFIX-$3"
}

IS_BLUE_RUNNING=$(docker inspect -f '{{.State.Status}}' "$PREFIX-blue" 2>/dev/null | grep running)
if [ -n "$IS_BLUE_RUNNING" ]; then
  deploy green "$GREEN" blue
else
  deploy blue "$BLUE" green
fi
