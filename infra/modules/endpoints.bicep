// Private endpoints, and the private DNS zones that let names find them.
param name string
param location string
param tags object
param networkId string
param subnetId string
param storageId string
param hostStorageId string
param vaultId string
param registryId string

var zones = {
  blob: 'privatelink.blob.${az.environment().suffixes.storage}'
  queue: 'privatelink.queue.${az.environment().suffixes.storage}'
  table: 'privatelink.table.${az.environment().suffixes.storage}'
  vault: 'privatelink${replace(az.environment().suffixes.keyvaultDns, '.vault.', '.vaultcore.')}'
  registry: 'privatelink${az.environment().suffixes.acrLoginServer}'
}
var links = [
  { name: 'blob', group: 'blob', target: storageId, zone: zones.blob }
  { name: 'queue', group: 'queue', target: storageId, zone: zones.queue }
  { name: 'host-blob', target: hostStorageId, group: 'blob', zone: zones.blob }
  { name: 'host-queue', target: hostStorageId, group: 'queue', zone: zones.queue }
  { name: 'host-table', target: hostStorageId, group: 'table', zone: zones.table }
  { name: 'vault', group: 'vault', target: vaultId, zone: zones.vault }
  { name: 'registry', group: 'registry', target: registryId, zone: zones.registry }
]

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = [for z in items(zones): {
  name: z.value
  location: 'global'
  tags: tags
}]

resource zoneLink 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for (z, i) in items(zones): {
  parent: zone[i]
  name: 'network'
  location: 'global'
  properties: { registrationEnabled: false, virtualNetwork: { id: networkId } }
}]

resource endpoint 'Microsoft.Network/privateEndpoints@2024-05-01' = [for l in links: {
  name: 'pe-${name}-${l.name}'
  location: location
  tags: tags
  properties: {
    subnet: { id: subnetId }
    privateLinkServiceConnections: [
      { name: l.name, properties: { privateLinkServiceId: l.target, groupIds: [l.group] } }
    ]
  }
}]

resource records 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [for (l, i) in links: {
  parent: endpoint[i]
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [{ name: l.name, properties: { privateDnsZoneId: resourceId('Microsoft.Network/privateDnsZones', l.zone) } }]
  }
  dependsOn: [zone]
}]
