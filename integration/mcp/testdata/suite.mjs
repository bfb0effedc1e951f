// Runs flows of the suite against an MCP server, and prints what each step gave: node suite.mjs <server> <flows as JSON>
import { OAuthConformanceSuite } from '@mcpjam/sdk'
import { visit } from './person.mjs'

const [serverUrl, flows] = process.argv.slice(2)
const suite = new OAuthConformanceSuite({
  serverUrl,
  flows: JSON.parse(flows).map((flow) => ({
    auth: { mode: 'interactive', openUrl: visit },
    verification: { listTools: true },
    stepTimeout: 60000,
    ...flow,
  })),
})
const result = await suite.run()
console.log(JSON.stringify(result.results.map((r) => ({
  label: r.label,
  passed: r.passed,
  summary: r.summary,
  verified: r.verification,
  steps: r.steps.filter((s) => s.status !== 'skipped').map((s) => ({ step: s.step, status: s.status, error: s.error?.message })),
}))))
process.exit(0)
