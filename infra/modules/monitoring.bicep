// Logs, traces and metrics, and a workbook of runs.
param name string
param location string
param tags object
param appPrincipal string

var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: 'log-${name}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 30
    workspaceCapping: { dailyQuotaGb: 1 }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${name}'
  location: location
  tags: tags
  kind: 'web'
  properties: { Application_Type: 'web', WorkspaceResourceId: workspace.id, DisableLocalAuth: true }
}

resource grant 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, appPrincipal, metricsPublisher)
  scope: insights
  properties: {
    principalId: appPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
  }
}

resource runs 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, name, 'runs')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Serverless runs (${name})'
    category: 'workbook'
    sourceId: insights.id
    serializedData: loadTextContent('runs.workbook.json')
  }
}

output workspaceName string = workspace.name
output insightsConnection string = insights.properties.ConnectionString
