#!/usr/bin/env bash
# Creates or updates a whole environment: resources, the secret of the hooks, the GPU job's image, the Functions app.
# Needs az (signed in), dotnet, zip and openssl. It can be run again at any time; what is right stays as it is.
set -euo pipefail
usage="usage: infra/deploy.sh dev|prod RESOURCE-GROUP LOCATION"
environment=${1:?$usage} group=${2:?$usage} location=${3:?$usage}
cd "$(dirname "$0")/.."
parameters=infra/main.$environment.bicepparam
[ -f "$parameters" ] || { echo "$parameters: there is no such file; $usage" >&2; exit 2; }
refuse() { echo "$1" >&2; exit 2; }

echo "Checks"
for tool in az dotnet zip openssl git; do
  command -v "$tool" > /dev/null || refuse "$tool: not found; install it."
done
az account show --output none 2> /dev/null || refuse "az: not signed in; run 'az login'."
profile=$(sed -n "s/^param gpuProfile = '\(.*\)'.*/\1/p" "$parameters")
flavour=cpu
if [[ $profile == *GPU* ]]; then
  flavour=gpu
  az containerapp env workload-profile list-supported --location "$location" --output json | grep -q "\"$profile\"" ||
    refuse "$location has no workload profile $profile; take westus3, australiaeast or swedencentral, or gpuProfile 'Consumption' in $parameters."
fi

az group create --name "$group" --location "$location" --output none
job=$(az containerapp job list --resource-group "$group" --query "[0].name" --output tsv 2>/dev/null || true)
image=${job:+$(az containerapp job show --resource-group "$group" --name "$job" --query "properties.template.containers[0].image" --output tsv)}
deploy() {
  az deployment group create --resource-group "$group" --name serverless --template-file infra/main.bicep \
    --parameters "$parameters" ${image:+--parameters gpuImage="$image"} --output none
}
output() { az deployment group show --resource-group "$group" --name serverless --query "properties.outputs.$1.value" --output tsv; }

echo "Resources"
deploy

echo "The secret of the hooks"
vault=$(output vault)
if ! az keyvault secret show --vault-name "$vault" --name hook-secret --output none 2>/dev/null; then
  me=$(az ad signed-in-user show --query id --output tsv)
  scope=$(az keyvault show --name "$vault" --query id --output tsv)
  az role assignment create --assignee-object-id "$me" --assignee-principal-type User --role "Key Vault Secrets Officer" --scope "$scope" --output none
  for attempt in $(seq 12); do
    az keyvault secret set --vault-name "$vault" --name hook-secret --file <(openssl rand -hex 32 | tr -d '\n') --encoding utf-8 --output none && break
    [ "$attempt" = 12 ] && exit 1
    sleep 10 # The role takes a moment to arrive.
  done
fi

echo "The GPU job's image ($flavour)"
registry=$(output registry)
tag=gpu-job:$(git rev-parse --short HEAD)-$flavour
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
git archive HEAD | tar -x -C "$context"
az acr build --registry "$registry" --image "$tag" --file "$context/infra/Dockerfile" --build-arg FLAVOUR="$flavour" "$context" --output none
image=$registry.azurecr.io/$tag
deploy

echo "The Functions app"
dotnet publish functions/App -c Release -r linux-x64 --self-contained false -o "$context/app"
(cd "$context/app" && zip -qr ../app.zip .)
az functionapp deployment source config-zip --resource-group "$group" --name "$(output functionApp)" --src "$context/app.zip" --output none

echo "Done. Drop a model:"
echo "  az storage blob upload --auth-mode login --account-name $(output storageAccount) --container-name drop --name model.onnx --file model.onnx"
