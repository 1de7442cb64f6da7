"""One AWS call, for the tour and by hand: aws.py SERVICE OPERATION [JSON] [JMESPATH]

    aws.py ecs describe_services '{"cluster": "plog-cluster", "services": ["plog-api"]}' 'services[0].desiredCount'

Endpoint, region and keys come from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Prints what
JMESPATH picks, one item a line, or the whole reply as JSON. Run it with a Python that has botocore.
"""

import json
import os
import sys

import botocore.exceptions
import botocore.session
import jmespath


def main():
    if not 3 <= len(sys.argv) <= 5:
        raise SystemExit(__doc__.strip())
    service, operation = sys.argv[1:3]
    arguments = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    client = botocore.session.get_session().create_client(
        service, region_name=os.environ.get("AWS_REGION"), endpoint_url=os.environ.get("AWS_ENDPOINT_URL")
    )
    try:
        reply = getattr(client, operation)(**arguments)
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise SystemExit(f"error: {service} {operation}: {error}")
    reply.pop("ResponseMetadata", None)
    picked = jmespath.search(sys.argv[4], reply) if len(sys.argv) > 4 else reply
    for item in picked if isinstance(picked, list) else [picked]:
        print(item if isinstance(item, str) else json.dumps(item, default=str))


if __name__ == "__main__":
    main()
