// Runs the command of the conformance suite, as the person at the browser: node scenarios.mjs <arguments of the command>
import { spawn } from 'node:child_process'
import { visit } from './person.mjs'

const command = spawn(process.execPath, ['node_modules/@modelcontextprotocol/conformance/dist/index.js', ...process.argv.slice(2)])
let output = ''
let visited = false
const read = (chunk) => {
  output += chunk
  process.stdout.write(chunk)
  const url = output.match(/^http\S+[?&]response_type=code\S*$/m)
  if (url && !visited && output.includes('Callback server started')) {
    visited = true
    visit(url[0]).catch((error) => {
      console.log(error)
      command.kill()
    })
  }
}
command.stdout.on('data', read)
command.stderr.on('data', read)
command.on('exit', (code) => process.exit(code ?? 1))
