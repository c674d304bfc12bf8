//! What a dashboard is made of, and the JSON that Grafana takes. Places and ids follow from the order.

use serde_json::{Value, json};

/// `schemaVersion` of the Grafana that `grafana.schema.json` is of (`defaultDashboard` in @grafana/schema 13.2).
pub const SCHEMA_VERSION: u32 = 42;

/// Columns of Grafana's grid.
pub const COLUMNS: u32 = 24;

/// Tag of all dashboards: the list of links is made by it.
pub const TAG: &str = "zdt";

const SOURCE: &str = "${datasource}";

/// How a panel shows its values.
#[derive(Clone, Debug)]
pub enum Kind {
    /// One number; from `red` on it is bad. `None`: it is neither.
    Number { red: Option<f64> },
    /// Each series over time.
    Lines,
    /// Stacked bars over time: counts.
    Bars,
    /// A bar for each series, at the end of the window; the same.
    Ranking { red: Option<f64> },
    /// One row for each label set, at the end of the window; one query for each column.
    Table(Vec<Column>),
    /// Markdown.
    Text(&'static str),
}

/// A column of a table: the query's value, or a label.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// As Grafana names it after joining: `Value #A`, or the label.
    pub of: &'static str,
    pub title: &'static str,
    /// "": text.
    pub unit: &'static str,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub expr: String,
    pub legend: &'static str,
}

#[derive(Clone, Debug)]
pub struct Panel {
    pub kind: Kind,
    pub title: &'static str,
    /// What it shows, and what to do about it.
    pub description: &'static str,
    pub unit: &'static str,
    pub width: u32,
    pub height: u32,
    pub queries: Vec<Query>,
    /// Question and dashboard that goes on from here; in a table also from each row, for its workload.
    pub link: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub title: &'static str,
    pub panels: Vec<Panel>,
}

#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    pub label: &'static str,
    pub query: &'static str,
}

#[derive(Clone, Debug)]
pub struct Dashboard {
    pub uid: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub variables: Vec<Variable>,
    pub rows: Vec<Row>,
}

pub fn query(expr: impl Into<String>, legend: &'static str) -> Query {
    let expr = expr.into();
    Query { expr, legend }
}

/// A panel without a link; `size` is columns and rows of the grid.
pub fn panel(
    kind: Kind,
    (title, description): (&'static str, &'static str),
    unit: &'static str,
    (width, height): (u32, u32),
    queries: Vec<Query>,
) -> Panel {
    Panel {
        kind,
        title,
        description,
        unit,
        width,
        height,
        queries,
        link: None,
    }
}

/// What a counter has counted in the window. Its series is born with its first count, which `increase` misses: one that was
/// not there at the window's start counts whole.
pub fn counted(series: &str, window: &str) -> String {
    format!("(({series} unless {series} offset {window}) or increase({series}[{window}]))")
}

impl Dashboard {
    pub fn json(&self) -> Value {
        let variables = [json!({
            "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1,
            "hide": 0, "multi": false, "includeAll": false, "regex": "", "current": {"text": "default", "value": "default"},
        })];
        let asked = self.variables.iter().map(|v| {
            json!({
                "name": v.name, "label": v.label, "type": "query", "datasource": source(),
                "query": {"query": v.query, "refId": format!("variable-{}", v.name)},
                "refresh": 2, "sort": 1, "hide": 0, "multi": true, "includeAll": true, "allValue": ".*", "regex": "",
                "current": {"text": ["All"], "value": ["$__all"]},
            })
        });
        let variables: Vec<Value> = variables.into_iter().chain(asked).collect();
        json!({
            "uid": self.uid, "title": self.title, "description": self.description, "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION, "version": 1, "editable": true, "graphTooltip": 1, "timezone": "browser",
            "time": {"from": "now-6h", "to": "now"}, "refresh": "1m",
            "links": [{
                "title": "zdt", "type": "dashboards", "tags": [TAG], "asDropdown": false, "icon": "external link",
                "includeVars": true, "keepTime": true, "targetBlank": false, "tooltip": "The other dashboards of zdt",
                "url": "",
            }],
            "annotations": {"list": [rollouts()]},
            "templating": {"list": variables},
            "panels": self.panels(),
        })
    }

    fn panels(&self) -> Vec<Value> {
        let (mut panels, mut id, mut y) = (Vec::new(), 0, 0);
        for row in &self.rows {
            id += 1;
            panels.push(json!({
                "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }));
            y += 1;
            let (mut x, mut highest) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    (x, y, highest) = (0, y + highest, 0);
                }
                id += 1;
                panels.push(panel.json(id, (x, y)));
                x += panel.width;
                highest = highest.max(panel.height);
            }
            y += highest;
        }
        panels
    }
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": SOURCE})
}

/// A mark where each rollout began. Of a rollout over several nodes each node has its own beginning, within seconds.
fn rollouts() -> Value {
    let expr = "1000 * max by (namespace, workload) \
                (zdt_last_rollout_timestamp_seconds{namespace=~\"$namespace\",workload=~\"$workload\"})";
    json!({
        "name": "Rollouts", "enable": true, "hide": false, "iconColor": "blue", "datasource": source(),
        "target": {"datasource": source(), "refId": "Rollouts", "expr": expr, "range": true, "instant": false},
        "useValueForTime": true, "titleFormat": "Rollout", "textFormat": "{{namespace}} {{workload}}",
        "tagKeys": "namespace,workload",
    })
}

impl Panel {
    fn json(&self, id: u32, (x, y): (u32, u32)) -> Value {
        let links: Vec<Value> = self.link.iter().map(|(title, to)| link(title, to)).collect();
        let mut panel = json!({
            "id": id, "type": self.kind.plugin(), "title": self.title, "description": self.description,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "datasource": source(),
            "links": links,
            "targets": self.targets(),
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
            "options": self.options(),
        });
        if let Kind::Table(columns) = &self.kind {
            let titles: serde_json::Map<String, Value> = columns
                .iter()
                .map(|c| (c.of.to_owned(), c.title.into()))
                .collect();
            let order: serde_json::Map<String, Value> = columns
                .iter()
                .zip(0..)
                .map(|(c, n)| (c.of.to_owned(), Value::from(n)))
                .collect();
            panel["transformations"] = json!([
                {"id": "merge", "options": {}},
                {"id": "organize", "options": {
                    "excludeByName": {"Time": true}, "indexByName": order, "renameByName": titles,
                }},
            ]);
        }
        panel
    }

    fn targets(&self) -> Vec<Value> {
        let over_time = matches!(self.kind, Kind::Lines | Kind::Bars);
        let format = if matches!(self.kind, Kind::Table(_)) {
            "table"
        } else {
            "time_series"
        };
        let named = self.queries.iter().zip('A'..='Z');
        named
            .map(|(query, name)| {
                json!({
                    "refId": name, "datasource": source(), "expr": query.expr, "legendFormat": query.legend,
                    "format": format, "instant": !over_time, "range": over_time, "editorMode": "code",
                })
            })
            .collect()
    }

    fn defaults(&self) -> Value {
        let red = match self.kind {
            Kind::Number { red } | Kind::Ranking { red } => red,
            _ => None,
        };
        let mut steps = vec![json!({"color": if red.is_some() { "green" } else { "text" }, "value": null})];
        steps.extend(red.map(|red| json!({"color": "red", "value": red})));
        let colour = match self.kind {
            Kind::Number { .. } | Kind::Ranking { .. } => "thresholds",
            _ => "palette-classic",
        };
        let custom = match self.kind {
            Kind::Lines => {
                json!({"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "auto",
                                  "spanNulls": false})
            }
            Kind::Bars => json!({"drawStyle": "bars", "lineWidth": 0, "fillOpacity": 80,
                                 "stacking": {"mode": "normal", "group": "A"}}),
            Kind::Table(_) => json!({"align": "auto", "cellOptions": {"type": "auto"}, "inspect": false}),
            _ => json!({}),
        };
        let mut defaults = json!({
            "unit": self.unit, "color": {"mode": colour}, "custom": custom, "mappings": [],
            "thresholds": {"mode": "absolute", "steps": steps},
        });
        if matches!(self.kind, Kind::Lines | Kind::Bars) && self.unit != "dateTimeAsIso" {
            defaults["min"] = json!(0);
        }
        defaults
    }

    fn overrides(&self) -> Vec<Value> {
        let Kind::Table(columns) = &self.kind else {
            return Vec::new();
        };
        let numbers = columns.iter().filter(|c| !c.unit.is_empty());
        let units = numbers.map(|c| {
            json!({
                "matcher": {"id": "byName", "options": c.title},
                "properties": [{"id": "unit", "value": c.unit}],
            })
        });
        let link = self.link.iter().map(|(title, to)| {
            json!({
                "matcher": {"id": "byName", "options": "Workload"},
                "properties": [{"id": "links", "value": [row_link(title, to)]}],
            })
        });
        let named = |title: &str| columns.iter().any(|c| c.title == title);
        let of_rows = named("Namespace") && named("Workload");
        let pages = columns.iter().filter(|c| c.of == "instance").map(|c| {
            json!({
                "matcher": {"id": "byName", "options": c.title},
                "properties": [{"id": "links", "value": [page_link(c.title, of_rows)]}],
            })
        });
        units.chain(link).chain(pages).collect()
    }

    fn options(&self) -> Value {
        let last = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
        match &self.kind {
            Kind::Number { red } => json!({
                "reduceOptions": last, "orientation": "auto", "textMode": "auto", "wideLayout": true,
                "colorMode": if red.is_some() { "background" } else { "value" }, "graphMode": "none",
                "justifyMode": "auto", "percentChangeColorMode": "standard", "showPercentChange": false,
            }),
            Kind::Lines | Kind::Bars => json!({
                "legend": {"calcs": ["max", "lastNotNull"], "displayMode": "table", "placement": "bottom",
                           "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            Kind::Ranking { .. } => json!({
                "reduceOptions": last, "orientation": "horizontal", "displayMode": "basic", "valueMode": "color",
                "namePlacement": "left", "showUnfilled": true, "sizing": "auto", "minVizWidth": 8,
                "minVizHeight": 16, "maxVizHeight": 300,
                "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false},
            }),
            Kind::Table(_) => json!({"showHeader": true, "frameIndex": 0, "cellHeight": "sm"}),
            Kind::Text(markdown) => json!({"mode": "markdown", "content": markdown}),
        }
    }
}

impl Kind {
    fn plugin(&self) -> &'static str {
        match self {
            Self::Number { .. } => "stat",
            Self::Lines | Self::Bars => "timeseries",
            Self::Ranking { .. } => "bargauge",
            Self::Table(_) => "table",
            Self::Text(_) => "text",
        }
    }
}

/// To another dashboard, for the same time and choice. Grafana looks at `includeVars` and `keepTime` in the links of a dashboard
/// only.
fn link(title: &str, uid: &str) -> Value {
    json!({
        "title": title, "type": "link", "url": format!("/d/{uid}/{uid}?${{__url_time_range}}&${{__all_variables}}"),
        "icon": "external link", "tags": [], "asDropdown": false, "includeVars": false, "keepTime": false,
        "targetBlank": false, "tooltip": "",
    })
}

/// To what the daemon of a row serves: its report on the row's workload, or its page.
fn page_link(column: &str, of_rows: bool) -> Value {
    let at = format!("http://${{__data.fields.{column}}}");
    let (title, path) = if of_rows {
        let choice = "namespace=${__data.fields.Namespace}&workload=${__data.fields.Workload}";
        (
            "The report of this node",
            format!("/api/v1/report?format=html&{choice}"),
        )
    } else {
        ("The page of this node", "/".to_owned())
    };
    json!({"title": title, "targetBlank": true, "url": format!("{at}{path}")})
}

/// The same from a row of a table, for its workload alone.
fn row_link(title: &str, uid: &str) -> Value {
    let choice = "var-namespace=${__data.fields.Namespace}&var-workload=${__data.fields.Workload}";
    json!({
        "title": title, "targetBlank": false,
        "url": format!("/d/{uid}/{uid}?{choice}&${{datasource:queryparam}}&${{__url_time_range}}"),
    })
}
